"""The registry's ladder of roles: who reads, who acts, who approves."""

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from fastapi import Depends, HTTPException, Path, Request
from pydantic import SecretStr

from services.registry.settings import Settings
from shared.access import Actor, Needs

Role: TypeAlias = Literal["viewer", "operator", "approver"]

Viewer = Annotated[Actor, Depends(Needs("viewer"))]
Operator = Annotated[Actor, Depends(Needs("operator"))]
Approver = Annotated[Actor, Depends(Needs("approver"))]


ModelName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="A model's or stream's name.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Of a version.")]
P = TypeVar("P")


def part(name: str, kind: type[P]) -> Any:
    """What a route needs of the app: a part of it, once it is open."""

    def found(request: Request) -> P:
        there = getattr(request.app.state, name, None)
        if not isinstance(there, kind):
            raise HTTPException(503, "the registry is starting")
        return there

    return Depends(found)


def tokens_of(settings: Settings) -> dict[str, SecretStr]:
    """The token of each role, in rising order."""
    return {
        "viewer": settings.viewer_token,
        "operator": settings.operator_token,
        "approver": settings.approver_token,
    }
