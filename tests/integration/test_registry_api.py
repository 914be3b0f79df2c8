"""The registry's HTTP API: who may call, what it answers, how it refuses. On a real Postgres."""

import re
from collections.abc import AsyncIterator
from typing import get_args

import asyncpg
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr, ValidationError

from schemas.declarations import MAX_BYTES
from services.registry.access import Role
from services.registry.acts import Acts
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.reading import Reading
from services.registry.settings import Settings
from shared.access import check_routes, roles_of
from shared.health import OPEN_ROUTES, Health, add_health
from shared.settings import KafkaSettings
from tests.conftest import PoolFor
from tests.integration.registry_kit import (
    STREAM,
    changed,
    declare,
    hear,
    model,
    rejected,
    requested,
    trained,
    validated,
)

RANK: dict[str, int] = {role: rank for rank, role in enumerate(get_args(Role))}
TOKENS: dict[Role, str] = {role: f"{role}-{'x' * 16}" for role in RANK}
SETTINGS = Settings(
    viewer_token=SecretStr(TOKENS["viewer"]),
    operator_token=SecretStr(TOKENS["operator"]),
    approver_token=SecretStr(TOKENS["approver"]),
)
YAML = {"Content-Type": "text/yaml"}
DECLARED = """\
stream: rivers
entity: gauge
partitions: 8
features:
  level: {type: float}
label: {type: bool, delay: 1h}
---
model: drought
stream: rivers
owner: water-board
task: binary
features: [depth]
training: {window: 60d, min_rows: 500, estimators: [logistic_regression]}
"""


RECEIPT = f"sha256:{'ab' * 32}"


def made() -> FastAPI:
    return add_health(api(SETTINGS), Health())


def routes() -> list[tuple[str, str]]:
    return [
        (method, route.path)
        for route in made().routes
        if isinstance(route, APIRoute) and route.path not in OPEN_ROUTES
        for method in route.methods or ()
    ]


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model())
    return pool


@pytest.fixture
async def client(pool: asyncpg.Pool) -> AsyncIterator[httpx.AsyncClient]:
    app = made()
    app.state.acts = Acts(pool=pool, kafka=KafkaSettings(bootstrap_servers="nowhere:1"))
    app.state.reading = Reading(pool)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as client:
        yield client


@pytest.fixture
async def stranger() -> AsyncIterator[httpx.AsyncClient]:
    """Of a registry that has not opened its database: who is refused does not get that far."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made()), base_url="http://registry") as client:
        yield client


def as_(role: Role, name: str = "ann") -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[role]}", "X-Actor": name}


def path_of(template: str) -> str:
    named = {"model": "flood", "stream": "rivers", "version": "1", "file": "model.onnx", "receipt": RECEIPT}
    return re.sub(r"\{(\w+)\}", lambda match: named[match[1]], template)


@pytest.mark.parametrize(("method", "path"), routes())
async def test_every_route_refuses_a_caller_without_a_known_token(
    stranger: httpx.AsyncClient, method: str, path: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKENS['approver']}"}):
        answer = await stranger.request(method, path_of(path), headers=headers, content=b"not json")

        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/nowhere", "/livez/", "//readyz"])
async def test_paths_that_do_not_exist_tell_a_stranger_nothing(stranger: httpx.AsyncClient, path: str) -> None:
    assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize(("method", "path"), routes())
async def test_every_route_refuses_a_role_below_its_own(stranger: httpx.AsyncClient, method: str, path: str) -> None:
    of_path = (each for each in made().routes if isinstance(each, APIRoute) and each.path == path)
    (route,) = (each for each in of_path if method in (each.methods or ()))
    (needed,) = roles_of(route)

    for role, rank in RANK.items():
        body = {"reason": "x"} if method == "POST" else None
        answer = await stranger.request(method, path_of(path), headers=as_(role), json=body)
        assert (answer.status_code == 403) == (rank < RANK[needed]), (role, answer.text)


def test_reading_needs_a_viewer_acting_an_operator_and_approving_an_approver() -> None:
    needed = {(method, route.path): roles_of(route) for route in made().routes if isinstance(route, APIRoute)
              for method in route.methods or () if route.path not in OPEN_ROUTES}  # fmt: skip

    assert all(roles == ["viewer"] for (method, _), roles in needed.items() if method == "GET")
    approving = {path for (_, path), roles in needed.items() if roles == ["approver"]}
    verdicts = {f"/models/{{model}}/versions/{{version}}/{act}" for act in ("approve", "refuse")}
    assert approving == {*verdicts, "/erasures"}


def test_a_route_that_declares_no_role_keeps_the_registry_from_starting() -> None:
    check_routes(made())
    app, router = made(), APIRouter()
    router.add_api_route("/backdoor", lambda: "open")
    app.include_router(router)

    with pytest.raises(ValueError, match="expected exactly one declared role"):
        check_routes(app)


def test_tokens_must_be_long_and_differ() -> None:
    long = SecretStr("x" * 16)
    with pytest.raises(ValidationError, match="a token of its own"):
        Settings(viewer_token=long, operator_token=long, approver_token=long)
    with pytest.raises(ValidationError, match="at least 16"):
        Settings(viewer_token=SecretStr("a"), operator_token=SecretStr("b"), approver_token=SecretStr("c"))


async def test_a_registry_that_is_starting_says_so(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/status", headers=as_("viewer"))

    assert answer.status_code == 503
    assert answer.json()["detail"] == "the registry is starting"


async def test_an_actors_name_is_checked_and_written_beside_the_role(client: httpx.AsyncClient) -> None:
    odd = await client.post("/models/flood/train", headers=as_("operator", "a b"), json={"reason": "x"})
    assert odd.status_code == 400

    answer = await client.post("/models/flood/train", headers=as_("operator", "bob"), json={"reason": "new data"})

    (row,) = (await client.get("/audit", headers=as_("viewer"))).json()["items"]
    assert (row["actor"], row["action"], row["reason"]) == ("operator:bob", "train", "new data")
    assert row["event_id"] == answer.json()["event_id"]


async def test_a_dry_run_tells_the_plan_and_changes_nothing(client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    text = DECLARED.replace("partitions: 8", "lateness: 2h").replace("depth", "level")

    answer = await client.post("/apply?dry_run=true", headers=as_("operator") | YAML, content=text)

    changes = {change["name"]: change for change in answer.json()["changes"]}
    assert {name: change["verdict"] for name, change in changes.items()} == {
        "rivers": "changed",
        "flood": "changed",
        "drought": "created",
    }
    assert changes["rivers"]["fields"] == [{"field": "lateness", "old": "PT1H", "new": "PT2H"}]
    assert changes["drought"]["topics"] == ["predictions.drought", "shadow.drought", "corrections.drought"]
    assert (await Reading(pool).stream("rivers")).revision == 1
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0


async def test_declarations_that_do_not_fit_are_refused_with_their_lines(client: httpx.AsyncClient) -> None:
    answer = await client.post("/apply?source=f.yaml", headers=as_("operator") | YAML, content=DECLARED)

    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "urn:modelbus:problem:declarations-unfit"
    assert [(each["source"], each["line"], each["where"]) for each in problem["problems"]] == [
        ("f.yaml", 3, "partitions"),
        ("f.yaml", 12, "features"),
    ]


async def test_declarations_that_are_wrong_are_refused_with_all_problems(client: httpx.AsyncClient) -> None:
    text = DECLARED.replace("entity", "entty").replace("binary", "binry")

    answer = await client.post("/apply", headers=as_("operator") | YAML, content=text)

    assert answer.status_code == 422
    assert [each["line"] for each in answer.json()["problems"]] == [1, 2, 11]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"\xff\xfe", "text/yaml", 422),
        (b"#" * (MAX_BYTES + 1), "text/yaml", 413),
        (b"", "application/yaml", 422),
    ],
)
async def test_a_body_that_is_no_declaration_is_refused(
    client: httpx.AsyncClient, content: bytes, kind: str, status: int
) -> None:
    answer = await client.post("/apply", headers=as_("operator") | {"Content-Type": kind}, content=content)

    assert answer.status_code == status, answer.text
    assert answer.json()["status"] == status


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 1001}, {"reason": "x", "more": 1}])
async def test_an_act_needs_a_reason(client: httpx.AsyncClient, body: dict[str, object]) -> None:
    answer = await client.post("/models/flood/freeze", headers=as_("operator"), json=body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/streams/lakes",
        "/models/drought",
        "/models/drought/versions",
        "/models/flood/versions/9",
        "/models/drought/runs",
        "/models/drought/windows",
        "/nowhere",
    ],
)
async def test_what_is_not_known_is_a_problem_404(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers=as_("viewer"))

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_version_is_told_whole(client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    await hear(pool, requested("a"))
    await hear(pool, trained("a"))
    await hear(pool, validated("a"))
    await hear(pool, changed(1, "serving", 1))

    told = (await client.get("/models/flood/versions/1", headers=as_("viewer"))).json()

    assert (told["stage"], told["run_id"], told["metrics"]) == ("champion", "a", {"roc_auc": 0.9})
    assert told["gates"][0]["verdict"] == "passed"
    assert told["report"]["digest"].startswith("sha256:")
    assert [stage["stage"] for stage in told["stages"]] == ["trained", "registered", "champion"]
    assert told["rollout"]["outcome"] == "promoted"
    assert set(told["artifacts"]) == {"onnx", "skops", "manifest", "reference"}
    assert told["cut"]["time"]


async def test_lists_come_in_pages_that_join_without_gap(client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    for run in "abcde":
        await hear(pool, rejected(run))

    found, after = [], ""
    while True:
        page = (await client.get(f"/models/flood/versions?limit=2{after}", headers=as_("viewer"))).json()
        found += [each["version"] for each in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"

    assert found == [5, 4, 3, 2, 1]
    assert (await client.get("/audit?limit=501", headers=as_("viewer"))).status_code == 422


async def test_the_status_is_everything_at_a_glance(client: httpx.AsyncClient, pool: asyncpg.Pool) -> None:
    await hear(pool, requested("a"))
    await hear(pool, validated("a"))
    await hear(pool, validated("b"))
    await hear(pool, changed(1, "serving", 1))
    await hear(pool, changed(2, "shadow", 1, 2))

    told = (await client.get("/status", headers=as_("viewer"))).json()

    assert told["streams"] == [{"name": "rivers", "revision": 1, "partitions": 4, "models": ["flood"]}]
    (flood,) = told["models"]
    assert (flood["champion"]["version"], flood["challenger"]["version"]) == (1, 2)
    assert flood["versions"] == {"champion": 1, "shadow": 1}
    assert flood["run"]["run_id"] == "b"
    assert [step["revision"] for step in flood["rollout"]["steps"]] == [2]


async def test_the_api_describes_itself_to_those_who_may_read(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json", headers=as_("viewer"))).json()

    assert "/models/{model}/versions/{version}/approve" in described["paths"]
