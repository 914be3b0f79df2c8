"""Who may ask the gateway, and how it refuses, before any client of a broker is open."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr

from services.deployer.gateway.answering import Answering
from services.deployer.gateway.api import OPEN, api
from services.deployer.serving import Known
from services.deployer.settings import GatewaySettings
from shared.access import check_routes, roles_of
from shared.health import Health, add_health
from tests.gateway_world import GRANTED, TOKEN, asking

HEALTH = Health()


def made() -> FastAPI:
    """A gateway that has not heard of anything yet."""
    view: Any = SimpleNamespace(complete=False, known=Known())
    exchange: Any = None
    settings = GatewaySettings(caller_token=SecretStr(TOKEN))
    return add_health(api(settings, HEALTH, Answering(view, exchange)), HEALTH)


def routes() -> list[tuple[str, str]]:
    return [
        (method, route.path.format(model="m", version="1"))
        for route in made().routes
        if isinstance(route, APIRoute) and route.path not in OPEN
        for method in route.methods or ()
    ]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made()), base_url="http://gateway") as client:
        yield client


@pytest.mark.parametrize(("method", "path"), [*routes(), ("GET", "/docs"), ("GET", "/v2/health/live/"), ("GET", "/")])
async def test_a_stranger_is_refused_everywhere(client: httpx.AsyncClient, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = await client.request(method, path, headers=headers)

        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert list(answer.json()) == ["error"]


def test_every_route_is_open_by_name_or_needs_a_caller() -> None:
    check_routes(made(), OPEN)
    for route in made().routes:
        assert isinstance(route, APIRoute) or route.path in OPEN  # type: ignore[attr-defined]
        assert route.path in OPEN or roles_of(route) == ["caller"]  # type: ignore[attr-defined, arg-type]


async def test_a_gateway_that_is_starting_lives_and_says_so(client: httpx.AsyncClient) -> None:
    live, ready = await client.get("/v2/health/live"), await client.get("/v2/health/ready")
    asked = await client.post("/v2/models/m/infer", headers=GRANTED, json=asking())

    assert (live.status_code, live.json()) == (200, {"live": True, "ready": False})
    assert (ready.status_code, ready.json()) == (503, {"live": True, "ready": False})
    assert (asked.status_code, asked.json()) == (503, {"error": "the gateway is starting"})
    assert asked.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/nowhere", 404), ("GET", "/v2/models/m/infer", 405), ("DELETE", "/v2", 405)],
)
async def test_what_is_not_served_is_an_error_of_the_protocol(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, headers=GRANTED)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(f"{method} {path}: ")
    assert ("allow" in answer.headers) == (status == 405)


async def test_the_server_tells_who_it_is_and_what_it_understands(client: httpx.AsyncClient) -> None:
    for path in ("/v2", "/v2/"):
        told = (await client.get(path, headers=GRANTED)).json()

        assert told["name"] == "modelbus"
        assert told["extensions"] == ["binary_tensor_data"]


async def test_the_api_describes_itself_to_callers(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json", headers=GRANTED)).json()

    assert "/v2/models/{model}/versions/{version}/infer" in described["paths"]
    assert "RequestInput" in described["components"]["schemas"]
