"""The registry's ladder of roles: who reads, who acts, who approves."""

from typing import Annotated, Literal, TypeAlias

from fastapi import Depends
from pydantic import SecretStr

from services.registry.settings import Settings
from shared.access import Actor, Needs

Role: TypeAlias = Literal["viewer", "operator", "approver"]

Viewer = Annotated[Actor, Depends(Needs("viewer"))]
Operator = Annotated[Actor, Depends(Needs("operator"))]
Approver = Annotated[Actor, Depends(Needs("approver"))]


def tokens_of(settings: Settings) -> dict[str, SecretStr]:
    """The token of each role, in rising order."""
    return {
        "viewer": settings.viewer_token,
        "operator": settings.operator_token,
        "approver": settings.approver_token,
    }
