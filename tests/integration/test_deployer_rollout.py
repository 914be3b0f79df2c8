"""The rollout's handlers on real Postgres, and the rollout with a scorer on the real bus."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from compose.embedded.stack import Stack
from schemas.envelope import Envelope, read
from schemas.events.base import Event
from schemas.events.deployer import LoadFailed, PredictionsWithdrawn, RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.monitor import ArmMeasured, Pairs, RolloutMeasured
from schemas.events.registry import ModelApproved, ModelRegistered, RolloutOrdered
from schemas.specs import Rollout as Policy
from services.deployer.app import MIGRATIONS, handlers
from services.deployer.domain.rollout import Rollout
from services.deployer.store import Store
from shared.outbox import first_hearing, unit_of_work
from tests.conftest import PoolFor
from tests.scoring_world import ROOT, World, free_port, model_spec, release_of, scorers, stream_spec, until, wrapped

STREAM = stream_spec("s", partitions=2)
SPEC = model_spec("m", "s", Policy(shadow=1000, canary=(0.5,), margin=0.02))


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    return await pool_for("deployer", [MIGRATIONS])


async def hear(pool: asyncpg.Pool, event: Event, id: str) -> None:
    """As the bus does, without the bus."""
    table = {kind: handler for topic in handlers(None).values() for kind, handler in topic.items()}  # type: ignore[arg-type]
    said = wrapped(event, id)
    async with unit_of_work(pool, "deployer", said) as work:
        if await first_hearing(work, said):
            await table[type(event)](event, work)


async def spoken(pool: asyncpg.Pool) -> list[Envelope]:
    """What stands in the outbox, in order."""
    rows = await pool.fetch("SELECT headers, value FROM outbox ORDER BY position")
    found = [read([(name, value.encode()) for name, value in row["headers"]], row["value"]) for row in rows]
    return [each for each in found if each is not None]


def registered(version: int, approval: Any = "none") -> ModelRegistered:
    return ModelRegistered(
        model="m", version=version, release=release_of(version, SPEC, STREAM), gates=(), approval=approval
    )


def measured(model: str, revision: int, mean: float = 0.0, n: int = 3000) -> RolloutMeasured:
    pairs = Pairs(n=n, total=mean * n, total_squares=(mean * mean + 0.01) * n)
    arm = ArmMeasured(scored=5000, labelled=n)
    return RolloutMeasured(
        model=model,
        revision=revision,
        champion=1,
        challenger=2,
        measured_at=datetime(2013, 2, 1, tzinfo=UTC),
        pairs=pairs,
        pairs_of_revision=pairs,
        paired_scores=5000,
        arms={"champion": arm, "challenger": arm},
    )


def switched(partition: int, revision: int) -> RolloutSwitched:
    return RolloutSwitched(model="m", stream="s", partition=partition, offset=0, revision=revision)


async def test_a_version_that_needs_no_approval_goes_live_and_one_that_does_waits_for_it(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(2, "four_eyes"), "b")
    before = len(await spoken(pool))
    release = release_of(2, SPEC, STREAM)
    await hear(pool, ModelApproved(model="m", version=2, release=release, actors=("ada",), reason="why"), "c")

    changes = [each.event for each in await spoken(pool) if isinstance(each.event, RolloutChanged)]
    assert before == 1
    assert [(change.revision, change.phase) for change in changes] == [(1, "serving"), (2, "shadow")]


async def test_a_repeated_event_changes_nothing_and_an_events_cause_is_kept(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(1), "a")

    [said] = await spoken(pool)
    assert (said.causation_id, said.correlation_id) == ("a", "a-run")


async def test_steps_wait_for_every_partition_and_go_on_in_the_challengers_lifecycle(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(2), "b")
    await hear(pool, switched(0, 2), "s0")
    await hear(pool, measured("m", 2), "m1")
    held = len(await spoken(pool))
    await hear(pool, switched(1, 2), "s1")
    await hear(pool, switched(1, 1), "an old word")
    await hear(pool, measured("m", 2), "m2")

    said = await spoken(pool)
    assert held == 2
    assert isinstance(said[2].event, RolloutChanged)
    assert (said[2].event.phase, said[2].event.share, said[2].causation_id) == ("canary", 0.5, "m2")
    async with pool.acquire() as connection, connection.transaction():
        rollout = await Store(connection).rollout("m")
    assert isinstance(rollout, Rollout)
    assert (rollout.revision, rollout.phase) == (3, "canary")


async def test_orders_and_load_failures_reach_the_rollout(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(2), "b")
    await hear(pool, LoadFailed(model="m", version=2, revision=2, explanation="gone"), "f")
    await hear(pool, registered(3), "c")
    await hear(pool, RolloutOrdered(model="m", order="promote", actor="ada", reason="sure"), "o")
    await hear(pool, RolloutOrdered(model="m", order="rollback", actor="ada", reason="not so sure"), "p")

    ends = [each.event for each in await spoken(pool) if isinstance(each.event, RolloutEnded)]
    assert [(end.version, end.outcome) for end in ends] == [(2, "rolled_back"), (3, "promoted"), (3, "rolled_back")]
    changes = [each.event for each in await spoken(pool) if isinstance(each.event, RolloutChanged)]
    assert [change.champion.version for change in changes] == [1, 1, 1, 1, 3, 1]
    assert "ada" in changes[-1].reason


async def test_a_scorer_that_cannot_load_what_others_serve_dethrones_nobody(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(2), "b")
    await hear(pool, RolloutOrdered(model="m", order="promote", actor="ada", reason="sure"), "o")
    await hear(pool, RolloutSwitched(model="m", stream="s", partition=0, offset=7, revision=3), "s")
    await hear(pool, LoadFailed(model="m", version=2, revision=3, explanation="gone"), "f")
    await hear(pool, registered(3), "c")
    await hear(pool, LoadFailed(model="m", version=2, revision=4, explanation="gone"), "g")

    changes = [each.event for each in await spoken(pool) if isinstance(each.event, RolloutChanged)]
    assert [change.champion.version for change in changes] == [1, 1, 2, 2]


async def test_corrections_are_due_once_no_partition_is_served_by_the_fallen_version(pool: asyncpg.Pool) -> None:
    await hear(pool, registered(1), "a")
    await hear(pool, registered(2), "b")
    await hear(pool, RolloutOrdered(model="m", order="promote", actor="ada", reason="sure"), "o")
    await hear(pool, RolloutOrdered(model="m", order="rollback", actor="ada", reason="not so sure"), "p")

    due = []
    for partition, revision in ((0, 4), (1, 3), (1, 4)):
        await hear(pool, switched(partition, revision), f"s{partition}{revision}")
        due.append(await Store(pool).due_corrections())

    assert due[:2] == [[], []]
    [fallen] = due[2]
    assert (fallen.version, fallen.from_revision, fallen.until_revision, fallen.revision) == (2, 3, 3, 4)
    [said] = [each for each in await spoken(pool) if isinstance(each.event, PredictionsWithdrawn)]
    assert said.id == fallen.event_id
    await Store(pool).corrected(fallen)
    assert await Store(pool).due_corrections() == []


@contextmanager
def deployer() -> Iterator[subprocess.Popen[bytes]]:
    """The rollout as a process of its own."""
    environment = os.environ | {"MODELBUS_DEPLOYER_HTTP_PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-m", "services.deployer"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.stack
async def test_a_second_version_goes_from_shadow_to_champion_through_a_scorers_switches(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("whole")
    model = world.models[0].model

    def phases() -> list[tuple[str, int]]:
        found = [each.event for each in world.said(RolloutChanged)]
        return [(each.phase, each.champion.version) for each in found if isinstance(each, RolloutChanged)]

    def all_on(revision: int) -> bool:
        found = [each.event for each in world.said(RolloutSwitched)]
        return sum(isinstance(each, RolloutSwitched) and each.revision == revision for each in found) == 4

    with deployer() as process, scorers(tmp_path):
        for version in (1, 2):
            release = world.release(version)
            world.say(ModelRegistered(model=model, version=version, release=release, gates=(), approval="none"))
        for revision in (2, 3, 4):
            await until(lambda revision=revision: all_on(revision), 90)  # type: ignore[misc]
            world.feed(200)
            await until(lambda: len(world.predictions()) >= len(world.fed))
            await until_said(world, model, revision)
        await until(lambda: all_on(5))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    assert phases() == [("serving", 1), ("shadow", 1), ("canary", 1), ("canary", 1), ("serving", 2)]
    world.assert_exactly_once()
    assert {each["arm"] for each in world.predictions()} == {"champion", "canary"}


async def until_said(world: World, model: str, revision: int) -> None:
    """Measure, as the monitor does again and again, until the rollout has taken its step."""

    def stepped() -> bool:
        world.say(measured(model, revision))
        return any(each.event.revision > revision for each in world.said(RolloutChanged))  # type: ignore[attr-defined]

    await until(stepped, every=1.0)
