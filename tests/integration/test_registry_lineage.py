"""Where a version comes from, over HTTP and by command: a real Postgres, and manifests in a real S3."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from cli.why import why
from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutEnded
from schemas.events.validator import ModelValidated
from services.registry.acts import Acts, Word
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.lineage import Lineage
from shared.health import serve
from shared.objects import Objects, digest_of
from shared.settings import HttpSettings, S3Settings
from tests.conftest import PoolFor
from tests.integration.registry_kit import (
    NOWHERE,
    STREAM,
    TRACE,
    changed,
    declare,
    hear,
    model,
    requested,
    trained,
    validated,
)
from tests.integration.test_registry_api import SETTINGS, TOKENS

MANIFEST = {"code_version": "c0de", "lock_hash": "10cc", "libraries": {"numpy": "2.0"}, "python": "3.11.2", "seed": 7}
Run = Callable[..., Awaitable[Result]]
pytestmark = pytest.mark.stack


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model(rollout={"approval": "required", "expires": "36500d"}))
    return pool


@pytest.fixture
async def objects(stack: Stack) -> Objects:
    at = stack.environment
    opened = Objects(
        S3Settings(
            endpoint=at["MODELBUS_S3_ENDPOINT"],
            access_key=at["MODELBUS_S3_ACCESS_KEY"],
            secret_key=SecretStr(at["MODELBUS_S3_SECRET_KEY"]),
        )
    )
    await opened.ensure_bucket()
    return opened


@pytest.fixture
async def run(pool: asyncpg.Pool, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    app, command = api(SETTINGS), typer.Typer(pretty_exceptions_enable=False)
    app.state.lineage = Lineage(pool=pool, objects=objects)
    command.command()(why)
    async with serve(app, HttpSettings()) as port:
        monkeypatch.setenv("MODELBUS_REGISTRY_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MODELBUS_REGISTRY_VIEWER_TOKEN", TOKENS["viewer"])
        monkeypatch.setenv("COLUMNS", "200")

        async def invoke(*arguments: str) -> Result:
            return await asyncio.to_thread(lambda: CliRunner().invoke(command, arguments, catch_exceptions=False))

        yield invoke


async def with_manifest(objects: Objects, event: ModelValidated) -> ModelValidated:
    stored = await objects.put(json.dumps(MANIFEST).encode())
    return event.model_copy(update={"candidate": event.candidate.model_copy(update={"manifest": stored})})


async def live(pool: asyncpg.Pool, objects: Objects) -> None:
    """A version that ann asked for, bob approved, and that was rolled out and ended as champion."""
    asked = requested("a").model_copy(update={"reason": "person", "explanation": "operator:ann: new sensors"})
    await hear(pool, asked, run_id="a")
    await hear(pool, await with_manifest(objects, validated("a")), run_id="a")
    await Acts(pool=pool, kafka=NOWHERE).approve("flood", 1, Word(actor="approver:bob", reason="looks good"))
    await hear(pool, changed(1, "serving", 1))


async def test_a_prediction_leads_to_all_that_made_its_version(run: Run, pool: asyncpg.Pool, objects: Objects) -> None:
    await live(pool, objects)

    shown, as_json = await run("x@y:7@flood:1"), await run("e1@flood:1", "--json")

    found: dict[str, Any] = json.loads(as_json.stdout)
    cut = validated("a").candidate.cut.model_dump(mode="json")
    assert (found["stage"], found["run_id"], found["trace_id"], found["seed"]) == ("champion", "a", TRACE, 7)
    assert (found["run"]["reason"], found["run"]["request"]) == ("person", "operator:ann: new sensors")
    assert {**found["cut"], "time": None} == {**cut, "time": None}
    assert (found["made_with"]["code_version"], found["made_with"]["lock_hash"]) == ("c0de", "10cc")
    assert found["artifacts"]["manifest"]["digest"] == digest_of(json.dumps(MANIFEST).encode())
    assert [gate["verdict"] for gate in found["gates"]] == ["passed"]
    assert [each["actor"] for each in found["approvals"]] == ["approver:bob"]
    assert [(each["outcome"], [step["revision"] for step in each["steps"]]) for each in found["rollouts"]] == [
        ("promoted", [1])
    ]
    for words in ("operator:ann: new sensors", "partition@offset: 0@", "c0de", "10cc", "approver:bob", TRACE):
        assert words in shown.stdout


async def test_every_rollout_of_a_version_is_told_with_its_outcome(
    run: Run, pool: asyncpg.Pool, objects: Objects
) -> None:
    await live(pool, objects)
    await hear(pool, trained("b"), run_id="b")
    for first, outcome in ((2, "rolled_back"), (4, "promoted")):
        await hear(pool, changed(first, "shadow", 1, 2))
        ended = {"model": "flood", "version": 2, "revision": first, "outcome": outcome, "reason": f"after {first}"}
        await hear(pool, RolloutEnded.model_validate(ended))
        await hear(pool, changed(first + 1, "serving", 1))

    found = json.loads((await run("e1@flood:2", "--json")).stdout)

    assert [(each["outcome"], each["reason"]) for each in found["rollouts"]] == [
        ("promoted", "after 4"),
        ("rolled_back", "after 2"),
    ]


async def test_what_the_store_does_not_give_is_said_and_the_rest_is_told(run: Run, pool: asyncpg.Pool) -> None:
    await hear(pool, validated("a"))

    shown = await run("e1@flood:1")

    assert shown.exit_code == 0
    assert "not known: sha256:" in shown.stdout
    assert "is not in the store" in shown.stdout
    assert "rollout   never" in shown.stdout


async def test_an_id_that_names_no_version_is_refused_with_what_was_expected(run: Run, pool: asyncpg.Pool) -> None:
    await hear(pool, validated("a"))

    for wrong in ("flood", "e1@flood", "@flood:1", "e1@flood:x", "e1@../audit:1", "e1@flood:99999999999"):
        refused = await run(wrong)
        assert (refused.exit_code, "[<event id>@]<model>:<version>" in refused.stderr) == (2, True), wrong
    unknown, undeclared = await run("e1@flood:9"), await run("e1@drought:1")

    alone, of_prediction = await run("flood:1"), await run("e1@flood:1")

    assert (unknown.exit_code, undeclared.exit_code) == (1, 1)
    assert alone.stdout == of_prediction.stdout
    assert "flood:1, awaiting approval" in alone.stdout
    assert unknown.stderr == "flood has no version 9; expected one of its versions: 1 to 1\n"
    assert undeclared.stderr == "model 'drought' is not known\n"
