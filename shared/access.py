"""Who may call an HTTP API: nobody without a token, and each route names the role it needs.

Roles form a ladder: a token of one grants all those before it. Each API brings its own ladder and its own refusals.
"""

import re
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Forbidden
from shared.health import OPEN_ROUTES

Refuse: TypeAlias = Callable[[int, str, str], Response]  # status, kind, detail
NAME = re.compile(r"[\w.@+-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The role a token proves, the roles it grants, and a name: the token's own, or what its holder says (X-Actor)."""

    role: str
    granted: frozenset[str]
    name: str | None

    def __str__(self) -> str:
        return f"{self.role}:{self.name}" if self.name else self.role


class Needs:
    """A route's declaration of the least role that may call it."""

    def __init__(self, role: str) -> None:
        self.role = role

    def __call__(self, request: Request) -> Actor:
        actor: Actor = request.scope["state"]["actor"]
        if self.role not in actor.granted:
            raise Forbidden(f"{request.method} {request.url.path}: expected the role {self.role}, got {actor.role}")
        return actor


def bare_app(title: str, routes: Sequence[BaseRoute] = ()) -> FastAPI:
    """An application with these routes alone, not even FastAPI's documentation, and without spans but our own.

    FastAPI would make one for every request, probes too.
    """
    return FastAPI(
        title=title,
        routes=list(routes),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


def roles_of(route: APIRoute) -> list[str]:
    """The roles that a route declares; exactly one is right."""
    return [call.role for dependency in route.dependant.dependencies if isinstance(call := dependency.call, Needs)]


def check_routes(app: FastAPI, open_routes: Collection[str] = OPEN_ROUTES) -> None:
    """Refuse to start with a route that anybody could call.

    Raises:
        ValueError: a route is neither open by name nor declares exactly one role.
    """
    for route in app.routes:
        path = getattr(route, "path", str(route))
        if path not in open_routes and not (isinstance(route, APIRoute) and len(roles_of(route)) == 1):
            raise ValueError(f"route {path}: expected exactly one declared role")


class Doorkeeper:
    """Before routing: everything but the open routes needs a known token, whether the route exists or not.

    `tokens` are named by role, in rising order. `people` of a role have tokens of their own, which prove their names;
    whoever then shares the role's token has no name, whatever they say.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Mapping[str, SecretStr],
        people: Mapping[str, Mapping[str, SecretStr]] = MappingProxyType({}),
        refuse: Refuse,
        open_routes: Collection[str] = OPEN_ROUTES,
    ) -> None:
        self._app, self._refuse, self._open = app, refuse, open_routes
        self._ladder, self._personal = list(tokens), {role for role, named in people.items() if named}
        shared: list[tuple[str, str | None, SecretStr]] = [(role, None, token) for role, token in tokens.items()]
        personal = [(role, name, token) for role, named in people.items() for name, token in named.items()]
        self._holders = [(role, name, token.get_secret_value().encode()) for role, name, token in shared + personal]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope.get("path") in self._open:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = headers.get("x-actor")
        holder = self._holder(headers.get("authorization", ""))
        if scope["type"] != "http" or holder is None:
            refusal = self._refuse(401, "unauthenticated", "expected a known token: Authorization: Bearer <token>")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            await refusal(scope, receive, send)
        elif name is not None and not NAME.fullmatch(name):
            detail = "X-Actor: expected 1 to 64 letters, digits or any of _ . @ + -"
            await self._refuse(400, "invalid", detail)(scope, receive, send)
        else:
            role, proven = holder
            known = proven if role in self._personal else name
            scope.setdefault("state", {})["actor"] = Actor(role=role, granted=self._granted(role), name=known)
            await self._app(scope, receive, send)

    def _holder(self, authorization: str) -> tuple[str, str | None] | None:
        """Role, and the name that the token proves."""
        scheme, _, token = authorization.partition(" ")
        given = token.encode()
        matching = [(role, name) for role, name, known in self._holders if secrets.compare_digest(known, given)]
        return matching[0] if matching and scheme.lower() == "bearer" else None

    def _granted(self, role: str) -> frozenset[str]:
        return frozenset(self._ladder[: self._ladder.index(role) + 1])
