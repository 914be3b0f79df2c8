"""`modelbus apply | status | rollback …` against a real registry's HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from cli.main import app as modelbus
from schemas.events.monitor import AlertRaised
from services.registry.acts import Acts
from services.registry.api import api
from services.registry.app import MIGRATIONS
from services.registry.past import Past
from services.registry.reading import Reading
from shared.health import serve
from shared.settings import HttpSettings, KafkaSettings
from tests.conftest import PoolFor
from tests.integration.registry_kit import NOW, STREAM, changed, declare, hear, model, rejected, requested, validated
from tests.integration.test_registry_api import DECLARED, SETTINGS, TOKENS

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    pool = await pool_for("registry", [MIGRATIONS])
    await declare(pool, STREAM, model())
    return pool


@pytest.fixture
async def run(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    app = api(SETTINGS)
    app.state.acts = Acts(pool=pool, kafka=KafkaSettings(bootstrap_servers="nowhere:1"))
    app.state.reading = Reading(pool)
    app.state.past = Past(pool=pool)
    async with serve(app, HttpSettings()) as port:
        monkeypatch.setenv("MODELBUS_REGISTRY_URL", f"http://127.0.0.1:{port}")
        for role, token in TOKENS.items():
            monkeypatch.setenv(f"MODELBUS_REGISTRY_{role.upper()}_TOKEN", token)
        monkeypatch.setenv("MODELBUS_ACTOR", "ann")
        monkeypatch.setenv("COLUMNS", "200")

        async def invoke(*arguments: str) -> Result:
            return await asyncio.to_thread(lambda: CliRunner().invoke(modelbus, arguments, catch_exceptions=False))

        yield invoke


async def test_status_shows_who_serves_and_for_scripts_the_answer_itself(run: Run, pool: asyncpg.Pool) -> None:
    await hear(pool, requested("a"))
    await hear(pool, validated("a"))
    await hear(pool, validated("b"))
    await hear(pool, changed(1, "serving", 1))
    await hear(pool, changed(2, "canary", 1, 2, share=0.25))

    shown, as_json = await run("status"), await run("status", "--json")

    assert shown.exit_code == 0
    assert "flood" in shown.stdout
    assert "v2 canary 25%" in shown.stdout
    assert json.loads(as_json.stdout)["models"][0]["serving"]["challenger"] == 2


async def test_a_run_in_vain_is_told_with_its_reason_and_where_more_stands(run: Run, pool: asyncpg.Pool) -> None:
    await hear(pool, requested("run"))
    await hear(pool, rejected("run"))

    status, rollouts = await run("status"), await run("rollouts", "show", "flood")

    assert "flood: the last run was in vain: roc_auc failed; `modelbus card flood:1` tells more\n" in status.stdout
    assert "no version has been rolled out yet" in rollouts.stdout


async def test_another_program_reads_tables_as_wide_as_they_are(
    run: Run, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    await hear(pool, requested("run"))
    words = "level moved " * 20
    raised = {"model": "flood", "alert": "flood-drift-v1-7", "kind": "drift", "severity": "warning"}
    await hear(pool, AlertRaised(**raised, features=("level",), explanation=words, raised_at=NOW))

    shown = await run("status")

    assert words in shown.stdout


async def test_what_was_live_at_an_instant_is_told_with_its_reasons(run: Run, pool: asyncpg.Pool) -> None:
    for number, event in enumerate((requested("a"), validated("a"), changed(1, "serving", 1), validated("b"))):
        await hear(pool, event, at=NOW + timedelta(minutes=number))
    await hear(pool, changed(2, "canary", 1, 2, share=0.25), at=NOW + timedelta(minutes=5))

    before, then = await run("as-of", "flood", "2026-01-01T12:01"), await run("as-of", "flood", "2026-01-01T12:04:30")
    later, never = await run("as-of", "flood", "2026-01-02"), await run("as-of", "flood", "2025-01-01")

    assert "nobody yet" in before.stdout
    assert "v1 registered" in before.stdout
    assert "champion    v1, since 2026-01-01T12:02" in then.stdout
    assert "v1 champion, v2 registered" in then.stdout
    assert "challenger  v2, 25% of the traffic, since 2026-01-01T12:05" in later.stdout
    assert "roc_auc passed" in later.stdout
    assert (never.exit_code, "was not declared at 2025-01-01" in never.stderr) == (1, True)


async def test_delivery_is_told_by_the_clock(run: Run, pool: asyncpg.Pool) -> None:
    for number, event in enumerate((requested("a"), validated("a"), changed(1, "serving", 1))):
        await hear(pool, event, at=NOW + timedelta(minutes=number))

    shown = await run("delivery", "flood")

    assert "lead time             0:02:00" in shown.stdout
    assert "change failure rate   0.0%, 0 were taken back" in shown.stdout


async def test_a_dry_run_shows_what_would_change(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rivers.yaml"
    file.write_text(DECLARED.replace("partitions: 8", "lateness: 2h").replace("depth", "level"))

    shown = await run("apply", str(file), "--dry-run")

    assert shown.exit_code == 0
    assert "lateness: 'PT1H' → 'PT2H'" in shown.stdout
    assert "model drought" in shown.stdout


async def test_apply_shows_every_problem_with_its_line_and_fails(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rivers.yaml"
    file.write_text(DECLARED.replace("entity", "entty"))
    wrong = await run("apply", str(file))
    file.write_text(DECLARED)
    unfit = await run("apply", str(file))

    assert (wrong.exit_code, unfit.exit_code) == (1, 1)
    assert f"{file}:2: entty: found the unknown key" in wrong.stderr
    assert f"{file}:3: partitions: found 8; expected 4: it cannot change" in unfit.stderr


async def test_an_order_is_said_and_a_refused_one_fails_in_words(run: Run, pool: asyncpg.Pool) -> None:
    done, refused = await run("freeze", "flood", "-r", "incident"), await run("rollback", "flood")

    assert done.exit_code == 0
    assert "freeze ordered" in done.stdout
    assert refused.exit_code == 1
    assert refused.stderr == "flood has no champion yet; there is nothing to roll back\n"
    (row,) = (await Reading(pool).audit(0, 10)).items
    assert (row.actor, row.reason) == ("operator:ann", "incident")


async def test_two_people_approve_what_needs_four_eyes(run: Run, pool: asyncpg.Pool) -> None:
    await declare(pool, model(rollout={"approval": "four_eyes", "expires": "36500d"}))
    await hear(pool, validated("a"))

    first, second = await run("approve", "flood:1"), await run("approve", "flood:1", "--as", "Bob Lee")

    assert "approved by approver:ann, one more person has to" in first.stdout
    assert "flood:1 is approved" in second.stdout


async def test_a_wrong_token_and_an_unknown_model_are_told_in_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = await run("train", "drought")
    monkeypatch.setenv("MODELBUS_REGISTRY_VIEWER_TOKEN", "wrong")
    stranger = await run("status")

    assert (unknown.exit_code, unknown.stderr) == (1, "model 'drought' is not declared\n")
    assert stranger.exit_code == 1
    assert "does not know this token" in stranger.stderr
