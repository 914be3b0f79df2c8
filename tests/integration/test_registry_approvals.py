"""Who says yes: from the command line and over HTTP, in the record, the audit log and the trace; and who may not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import asyncpg
import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from cli.main import app as modelbus
from schemas.events.registry import ApprovalGiven, ModelApproved, ModelCommented
from services.registry.acts import Acts
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.comments import comments_of
from services.registry.reading import Reading
from services.registry.settings import Settings
from shared.health import serve
from shared.settings import HttpSettings
from tests.conftest import PoolFor
from tests.integration.registry_kit import NOWHERE, STREAM, TRACE, declare, hear, model, outbox, said, validated
from tests.integration.test_registry_api import TOKENS

BOB, CY = "bob-" + "b" * 16, "cy-" + "c" * 16
Act = Callable[[str, str, str], Awaitable[int]]  # act, token, claimed name → HTTP status, or exit code


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    """With a version that waits for two people."""
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model(rollout={"approval": "four_eyes", "expires": "36500d"}))
    await hear(pool, validated("a"), run_id="a")
    return pool


async def served(pool: asyncpg.Pool, **named: str) -> AsyncIterator[str]:
    shared = {f"{role}_token": SecretStr(token) for role, token in TOKENS.items()}
    app = api(Settings(**shared, approvers={name: SecretStr(token) for name, token in named.items()}))
    app.state.acts, app.state.reading = Acts(pool=pool, kafka=NOWHERE), Reading(pool)
    async with serve(app, HttpSettings()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def url(pool: asyncpg.Pool) -> AsyncIterator[str]:
    """Of a registry whose approvers share a token."""
    async for url in served(pool):
        yield url


@pytest.fixture
async def personal(pool: asyncpg.Pool) -> AsyncIterator[str]:
    """Of a registry whose approvers have tokens of their own."""
    async for url in served(pool, bob=BOB, cy=CY):
        yield url


async def over_http(url: str, act: str, token: str, name: str) -> int:
    headers = {"Authorization": f"Bearer {token}", "X-Actor": name}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        return (await client.post(f"/models/flood/versions/1/{act}", json={"reason": f"{name} looked"})).status_code


async def by_command(url: str, act: str, token: str, name: str) -> int:
    role = "APPROVER" if act != "retire" else "OPERATOR"
    environment = {"MODELBUS_REGISTRY_URL": url, f"MODELBUS_REGISTRY_{role}_TOKEN": token, "MODELBUS_ACTOR": name}
    arguments = [act, "flood:1", "--reason", f"{name} looked"]
    done = await asyncio.to_thread(lambda: CliRunner().invoke(modelbus, arguments, env=environment))
    return 200 if done.exit_code == 0 else 409


@pytest.mark.parametrize("way", [over_http, by_command])
async def test_an_approval_is_in_the_record_on_the_bus_in_the_audit_log_and_in_the_trace(
    pool: asyncpg.Pool, url: str, spans: InMemorySpanExporter, way: Callable[..., Awaitable[int]]
) -> None:
    for name in ("bob", "cy"):
        assert await way(url, "approve", TOKENS["approver"], name) == 200
    assert await way(url, "approve", TOKENS["approver"], "dan") == 409

    version = await Reading(pool).version("flood", 1)
    assert (version.stage, [each.actor for each in version.approvals]) == ("approved", ["approver:bob", "approver:cy"])
    first, last = [each for each in await said(pool) if isinstance(each.event, ApprovalGiven | ModelApproved)]
    assert (first.event.event, last.event.event) == ("approval.given", "model.approved")
    rows = [row for row in (await Reading(pool).audit(0, 100)).items if row.action == "approve"]
    assert [(row.actor, row.reason, row.event_id, row.what["to"]) for row in rows] == [
        ("approver:bob", "bob looked", first.id, "awaiting_approval"),
        ("approver:cy", "cy looked", last.id, "approved"),
    ]
    made = [span for span in spans.get_finished_spans() if span.name == "registry approve"]
    assert {f"{span.get_span_context().trace_id:032x}" for span in made} == {TRACE}  # type: ignore[union-attr]
    traces = await pool.fetch("SELECT split_part(traceparent, '-', 2) AS id FROM outbox")
    assert {row["id"] for row in traces} == {TRACE}


@pytest.mark.parametrize("way", [over_http, by_command])
async def test_a_refusal_and_a_retirement_are_final_whichever_way_they_came(
    pool: asyncpg.Pool, url: str, way: Callable[..., Awaitable[int]]
) -> None:
    assert await way(url, "refuse", TOKENS["approver"], "bob") == 200
    assert await way(url, "approve", TOKENS["approver"], "cy") == 409
    assert await way(url, "retire", TOKENS["operator"], "ann") == 200

    version = await Reading(pool).version("flood", 1)
    assert [each.stage for each in version.stages] == ["registered", "awaiting_approval", "refused", "retired"]
    assert [row.action for row in (await Reading(pool).audit(0, 100)).items][1:] == ["refuse", "retire"]


async def test_one_person_with_the_token_of_all_is_not_four_eyes_where_people_have_their_own(
    pool: asyncpg.Pool, personal: str
) -> None:
    for name in ("bob", "cy", "dan"):
        assert await over_http(personal, "approve", TOKENS["approver"], name) == 200
    assert await over_http(personal, "approve", BOB, "cy") == 200
    assert (await Reading(pool).version("flood", 1)).stage == "awaiting_approval"

    assert await over_http(personal, "approve", CY, "whoever") == 200

    version = await Reading(pool).version("flood", 1)
    assert (version.stage, [each.actor for each in version.approvals]) == (
        "approved",
        ["approver", "approver:bob", "approver:cy"],
    )


async def test_a_yes_that_comes_too_late_is_refused(pool: asyncpg.Pool, url: str) -> None:
    await pool.execute("UPDATE version SET expires_at = now() - $1::interval", timedelta(seconds=1))

    assert await over_http(url, "approve", TOKENS["approver"], "bob") == 409
    assert (await Reading(pool).version("flood", 1)).approvals == []


def test_approvers_tokens_are_long_and_their_own_and_their_names_plain() -> None:
    shared = {f"{role}_token": SecretStr(token) for role, token in TOKENS.items()}

    for named in ({"bob": "short"}, {"bob": TOKENS["viewer"]}, {"bob": BOB, "cy": BOB}, {"b b": BOB}):
        with pytest.raises(ValidationError):
            Settings(**shared, approvers={name: SecretStr(token) for name, token in named.items()})


async def test_what_people_say_of_a_version_stays_with_it(pool: asyncpg.Pool, url: str) -> None:
    environment = {"MODELBUS_REGISTRY_URL": url, "MODELBUS_REGISTRY_OPERATOR_TOKEN": TOKENS["operator"]}

    for about in ("flood:1", "flood", "flood:9", "drought"):
        arguments = ["comment", about, f"of {about}", "--as", "ann"]
        done = await asyncio.to_thread(lambda: CliRunner().invoke(modelbus, arguments, env=environment))  # noqa: B023
        assert done.exit_code == (0 if about in ("flood:1", "flood") else 1), done.output

    assert [(each.version, each.actor, each.text) for each in await comments_of(pool, "flood")] == [
        (1, "operator:ann", "of flood:1"),
        (None, "operator:ann", "of flood"),
    ]
    assert [each.text for each in await comments_of(pool, "flood", 1)] == ["of flood:1"]
    spoken = [each for each in await outbox(pool) if isinstance(each.event, ModelCommented)]
    assert spoken[0].correlation_id == "a"
    assert [row.action for row in (await Reading(pool).audit(0, 100)).items][1:] == ["comment", "comment"]


async def test_forcing_a_promotion_needs_a_reason(url: str) -> None:
    environment = {"MODELBUS_REGISTRY_URL": url, "MODELBUS_REGISTRY_OPERATOR_TOKEN": TOKENS["operator"]}

    bare = await asyncio.to_thread(lambda: CliRunner().invoke(modelbus, ["promote", "flood"], env=environment))

    assert (bare.exit_code, "--reason" in bare.output) == (2, True)
