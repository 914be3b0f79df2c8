"""`modelbus rollouts`: what a person sees of a rollout is what the scorers did, to the record."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from cli import rollouts
from compose.embedded.stack import Stack
from schemas.events.deployer import (
    CorrectionsPublished,
    PredictionsWithdrawn,
    RolloutEnded,
    RolloutSwitched,
    Scoring,
    ScoringMeasured,
)
from schemas.events.monitor import ArmMeasured, Pairs, RolloutMeasured
from schemas.events.validator import ModelValidated
from services.registry.app import MIGRATIONS
from tests.conftest import PoolFor
from tests.integration.registry_http import reachable
from tests.integration.registry_kit import declare, hear
from tests.scoring_world import NOTHING, World, changed, scorers, until

pytestmark = pytest.mark.stack
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("registry", [MIGRATIONS])


@pytest.fixture
async def run(pool: asyncpg.Pool, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    async def invoke(*arguments: str) -> Result:
        return await asyncio.to_thread(lambda: CliRunner().invoke(rollouts.app, arguments, catch_exceptions=False))

    monkeypatch.setenv("COLUMNS", "200")
    async with reachable(pool, monkeypatch):
        yield invoke


def scoring(model: str, batches: int) -> ScoringMeasured:
    seconds = {"champion": 0.001 * batches, "challenger": 0.002 * batches}
    found = Scoring(batches=batches, slow_batches=batches // 40, records=100 * batches, seconds=seconds)
    return ScoringMeasured(model=model, revision=4, champion=1, challenger=2, scoring=found)


def measured(model: str) -> RolloutMeasured:
    pairs = Pairs(n=1000, total=7.0, total_squares=10.049)
    arm = ArmMeasured(scored=2500, labelled=1000)
    return RolloutMeasured(
        model=model, revision=4, champion=1, challenger=2, measured_at=datetime(2013, 2, 1, tzinfo=UTC), pairs=pairs,
        pairs_of_revision=pairs, paired_scores=2500, arms={"champion": arm, "challenger": arm},
    )  # fmt: skip


async def test_what_is_shown_of_an_aborted_version_is_what_it_answered(
    run: Run, pool: asyncpg.Pool, stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("radius")
    model = world.models[0].model
    first, second = world.release(1), world.release(2)
    await declare(pool, world.stream, *world.models)
    for release in (first, second):
        run_id = release.candidate.run_id
        await hear(
            pool,
            ModelValidated(model=model, run_id=run_id, candidate=release.candidate, gates=(), report=NOTHING),
            run_id=run_id,
        )
    steps = [
        changed(1, first),
        changed(2, first, second),
        changed(3, first, second, share=0.1),
        changed(4, first, second, share=0.3),
        changed(5, first),
    ]

    def switched_to(revision: int) -> bool:
        found = [each.event for each in world.said(RolloutSwitched)]
        return sum(isinstance(each, RolloutSwitched) and each.revision == revision for each in found) == 4

    with scorers(tmp_path):
        for step in steps:
            world.say(step)
            await hear(pool, step)
            await until(lambda step=step: switched_to(step.revision))  # type: ignore[misc]
            world.feed(400)
            await until(lambda: len(world.predictions()) >= len(world.fed))
    for said in world.said(RolloutSwitched):
        await hear(pool, said.event, id=said.id)
    world.assert_exactly_once()
    served = [each for each in world.predictions() if each["version"] == 2]
    for said in (scoring(model, 40), scoring(model, 20), measured(model)):
        await hear(pool, said)
    running = await run("show", model)
    await hear(pool, RolloutEnded(model=model, revision=5, version=2, outcome="rolled_back", reason="worse"))
    await hear(pool, PredictionsWithdrawn(model=model, version=2, from_revision=3, until_revision=4, cause="worse"))
    before = await run("show", model)
    count = len(served)
    await hear(pool, CorrectionsPublished(model=model, version=2, revision=5, count=count, partitions={0: count}))

    shown, radius = await run("show", model), await run("blast-radius", f"{model}:2")
    found = json.loads((await run("blast-radius", f"{model}:2", "--json")).stdout)
    of_champion = json.loads((await run("blast-radius", f"{model}:1", "--json")).stdout)

    assert found["revisions"] == [3, 4]
    assert found["total"]["predictions"] == found["total"]["canary"] == count > 0
    assert found["total"]["beyond_fences"] == of_champion["total"]["beyond_fences"] == 0
    assert of_champion["total"]["champion"] == len(world.fed) - count
    assert found["total"]["entities"] == len({each["entity"] for each in served})
    for partition, part in found["partitions"].items():
        offsets = [each["offset"] for each in served if each["partition"] == int(partition)]
        assert part["predictions"] == len(offsets)
        assert (part["first_offset"], part["last_offset"]) == (min(offsets, default=None), max(offsets, default=None))
    assert f"{count:,} predictions for" in radius.stdout
    assert "each within its fences" in radius.stdout
    assert f"withdrawn, with {count:,} corrections" in radius.stdout
    assert "corrections under way" in before.stdout
    assert "scorers saw 1 of 60 batches slow (champion 1.00 ms, challenger 2.00 ms each)" in running.stdout
    assert (
        "labels say wait: mean loss difference +0.00700, between -0.00179 and +0.01579, margin 0.01" in running.stdout
    )
    assert "1,000 matured pairs of at most 20,000, 2,500 scored by both arms" in running.stdout
    assert f"withdrawn: revisions 3–4, {count:,} corrections" in shown.stdout
    assert "rolled back at" in shown.stdout
    assert "champion v1, challenger –" in shown.stdout
    offsets_of = {
        each.event.partition: each.event.offset for each in world.said(RolloutSwitched) if each.event.revision == 4
    }  # type: ignore[attr-defined]
    assert " ".join(f"{partition}@{offsets_of[partition]}" for partition in range(4)) in shown.stdout


async def test_a_version_that_never_served_and_one_that_is_not_there_are_said_in_words(
    run: Run, pool: asyncpg.Pool
) -> None:
    world = await World.made("unserved")
    model = world.models[0].model
    release = world.release(1)
    await declare(pool, world.stream, *world.models)
    await hear(
        pool, ModelValidated(model=model, run_id="a", candidate=release.candidate, gates=(), report=NOTHING), run_id="a"
    )

    never, unknown = await run("blast-radius", f"{model}:1"), await run("blast-radius", f"{model}:9")

    assert "never served" in never.stdout
    assert unknown.exit_code == 1
    assert "is not known" in unknown.stderr
