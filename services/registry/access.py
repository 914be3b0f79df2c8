"""Who may call: nobody without a token, and each route names the role it needs."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.registry.problems import problem
from services.registry.settings import Settings
from shared.errors import Forbidden
from shared.health import OPEN_ROUTES

Role: TypeAlias = Literal["viewer", "operator", "approver"]
RANK: Final[Mapping[Role, int]] = {"viewer": 0, "operator": 1, "approver": 2}
_NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The role a token proves, and the name its holder gives (X-Actor), which nothing proves."""

    role: Role
    name: str | None

    def __str__(self) -> str:
        return f"{self.role}:{self.name}" if self.name else self.role


class Needs:
    """A route's declaration of the least role that may call it."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> Actor:
        actor: Actor = request.scope["state"]["actor"]
        if RANK[actor.role] < RANK[self.role]:
            raise Forbidden(f"{request.method} {request.url.path}: expected the role {self.role}, got {actor.role}")
        return actor


Viewer = Annotated[Actor, Depends(Needs("viewer"))]
Operator = Annotated[Actor, Depends(Needs("operator"))]
Approver = Annotated[Actor, Depends(Needs("approver"))]


def roles_of(route: APIRoute) -> list[Role]:
    """The roles that a route declares; exactly one is right."""
    return [call.role for dependency in route.dependant.dependencies if isinstance(call := dependency.call, Needs)]


def check_routes(app: FastAPI) -> None:
    """Refuse to start with a route that anybody could call.

    Raises:
        ValueError: a route is neither open by name nor declares exactly one role.
    """
    for route in app.routes:
        path = getattr(route, "path", str(route))
        if path not in OPEN_ROUTES and not (isinstance(route, APIRoute) and len(roles_of(route)) == 1):
            raise ValueError(f"route {path}: expected exactly one declared role")


class Doorkeeper:
    """Before routing: everything but the open routes needs a known token, whether the route exists or not."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        tokens: dict[Role, str] = {
            "viewer": settings.viewer_token.get_secret_value(),
            "operator": settings.operator_token.get_secret_value(),
            "approver": settings.approver_token.get_secret_value(),
        }
        self._tokens = {role: token.encode() for role, token in tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get("path") in OPEN_ROUTES:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = headers.get("x-actor")
        role = self._role(headers.get("authorization", ""))
        if scope["type"] != "http" or role is None:
            refusal = problem(401, "unauthenticated", "expected a known token: Authorization: Bearer <token>")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            await refusal(scope, receive, send)
        elif name is not None and not _NAME.fullmatch(name):
            detail = "X-Actor: expected 1 to 64 letters, digits or any of _ . @ + -"
            await problem(400, "invalid", detail)(scope, receive, send)
        else:
            scope.setdefault("state", {})["actor"] = Actor(role=role, name=name)
            await self._app(scope, receive, send)

    def _role(self, authorization: str) -> Role | None:
        scheme, _, token = authorization.partition(" ")
        given = token.encode()
        matching = [role for role, known in self._tokens.items() if secrets.compare_digest(known, given)]
        return matching[0] if matching and scheme.lower() == "bearer" else None
