"""What the monitor remembers, on real Postgres: events in any order, one open run, one writer of a state."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.deployer import LoadFailed, RolloutChanged, RolloutEnded, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.parts import Release
from schemas.events.registry import (
    ModelApplied,
    ModelRefused,
    ModelRegistered,
    ModelRetired,
    StreamApplied,
    TrainingOrdered,
)
from schemas.events.trainer import TrainingFailed
from schemas.events.validator import ModelRejected
from schemas.topics import REGISTRY
from services.monitor import handlers as on
from services.monitor.app import MIGRATIONS, handlers
from services.monitor.domain.facts import ModelFacts, Run
from services.monitor.store import Store
from shared.bus import Handler
from shared.errors import Fenced
from shared.outbox import unit_of_work
from shared.service import Service
from tests.conftest import PoolFor
from tests.unit.monitor_cases import MODEL, START, STREAM, candidate

SAID: dict[str, Any] = {"actor": "tests", "reason": "tests"}
RELEASES = [Release(version=version, candidate=candidate(version)) for version in (1, 2)]


async def hear(pool: asyncpg.Pool, handler: Handler, event: Event, event_id: str = "cause") -> None:
    said = Envelope(
        id=event_id,
        source="tests",
        time=datetime.now(UTC),
        correlation_id="lifecycle",
        causation_id=None,
        traceparent=None,
        event=event,
    )
    async with unit_of_work(pool, "monitor", said) as work:
        await handler(event, work)


@pytest.fixture
async def pool(pool_for: PoolFor) -> asyncpg.Pool:
    pool = await pool_for("monitor", [MIGRATIONS])
    await hear(pool, on.on_stream_applied, StreamApplied(stream="s", revision=2, spec=STREAM, **SAID))
    await hear(pool, on.on_model_applied, ModelApplied(model="m", revision=2, spec=MODEL, stream_spec=STREAM, **SAID))
    return pool


async def model(pool: asyncpg.Pool) -> ModelFacts:
    return (await Store(pool).models_of("s", {}))["m"]


async def wanted(pool: asyncpg.Pool, number: int = 1) -> Run:
    run = Run(
        run_id=f"m-{number}",
        number=number,
        state="wanted",
        reason="first",
        explanation="enough rows",
        cut_time=START,
        data_offsets={0: 5, 2: 1},
        labels_offsets={1: 3},
    )
    await Store(pool).want(MODEL, run, (await model(pool)).orders)
    return run


def changed(revision: int, challenger: bool = False) -> RolloutChanged:
    return RolloutChanged(
        model="m",
        stream_spec=STREAM,
        revision=revision,
        phase="shadow" if challenger else "serving",
        champion=RELEASES[0],
        challenger=RELEASES[1] if challenger else None,
        share=0,
        salt="",
        step=0,
        reason="tests",
    )


def committed(kind: Any, version: int) -> DatasetCommitted:
    return DatasetCommitted(
        stream="s",
        kind=kind,
        table=kind,
        version=version,
        offsets={0: version},
        rows_added=1,
        rows_total=1,
        time_min=None,
        time_max=None,
    )


async def test_declarations_come_back_as_they_were_and_older_revisions_change_nothing(pool: asyncpg.Pool) -> None:
    older = STREAM.model_copy(update={"partitions": 9})

    await hear(pool, on.on_stream_applied, StreamApplied(stream="s", revision=1, spec=older, **SAID))

    assert [each.spec for each in await Store(pool).streams()] == [STREAM]
    assert (await model(pool)).spec == MODEL


async def test_a_rollout_is_remembered_with_its_releases_and_its_lifecycle(pool: asyncpg.Pool) -> None:
    await hear(pool, on.on_rollout_changed, changed(2, challenger=True), "rollout-2")
    await hear(pool, on.on_rollout_changed, changed(1), "rollout-1")
    await hear(pool, on.on_rollout_switched, RolloutSwitched(model="m", stream="s", partition=1, offset=70, revision=1))
    await hear(pool, on.on_rollout_switched, RolloutSwitched(model="m", stream="s", partition=1, offset=90, revision=2))

    known = await model(pool)

    assert known.rollout is not None
    assert (known.rollout.revision, known.rollout.challenger) == (2, 2)
    assert (known.rollout.said.event_id, known.rollout.said.correlation_id) == ("rollout-2", "lifecycle")
    assert dict(known.releases) == {1: candidate(1), 2: candidate(2)}
    assert known.live == {1, 2}
    assert known.served_from == {1: 70}
    assert (await Store(pool).models_of("s", {"m": known}))["m"] == known


async def test_only_the_newest_version_of_data_and_labels_counts_and_the_last_heard_stands_last(
    pool: asyncpg.Pool,
) -> None:
    for kind, version in (("labels", 3), ("data", 4), ("predictions", 9), ("labels", 5), ("labels", 4)):
        await hear(pool, on.on_dataset_committed, committed(kind, version), f"{kind}@{version}")

    tables = await Store(pool).tables_of("s")

    assert [(table.said.event_id, table.offsets) for table in tables] == [("data@4", {0: 4}), ("labels@5", {0: 5})]


async def test_there_is_one_open_run_a_model(pool: asyncpg.Pool) -> None:
    await hear(pool, on.on_training_ordered, TrainingOrdered(model="m", **SAID), "order")
    run = await wanted(pool)

    with pytest.raises(asyncpg.UniqueViolationError):
        await wanted(pool, 2)

    known = await model(pool)
    assert known.run == run
    assert known.orders == []
    assert await Store(pool).requested("m-1")
    assert not await Store(pool).requested("m-1")


REJECTED = ModelRejected(model="m", run_id="m-1", candidate=candidate(1), gates=(), report=None, explanation="worse")
FAILED = TrainingFailed(model="m", run_id="m-1", reason="crashed", explanation="")
WAITING: tuple[Handler, Event] = (
    on.on_model_registered,
    ModelRegistered(model="m", version=1, release=RELEASES[0], gates=(), approval="required"),
)


def heard_by(kind: type[Event]) -> Handler:
    """The handler that the service's own table has for an event of the registry."""
    return handlers(cast(Service, None))[REGISTRY][kind]


ENDS: dict[str, Callable[[], list[tuple[Handler, Event]]]] = {
    "rejected": lambda: [(on.on_model_rejected, REJECTED)],
    "failed": lambda: [(on.on_training_failed, FAILED)],
    "refused": lambda: [WAITING, (heard_by(ModelRefused), ModelRefused(model="m", version=1, **SAID))],
    "retired": lambda: [WAITING, (heard_by(ModelRetired), ModelRetired(model="m", version=1, **SAID))],
    "serving": lambda: [(on.on_rollout_changed, changed(1))],
    "rolled back": lambda: [
        (on.on_model_registered, ModelRegistered(model="m", version=1, release=RELEASES[0], gates=(), approval="none")),
        (on.on_rollout_ended, RolloutEnded(model="m", revision=3, version=1, outcome="rolled_back", reason="worse")),
    ],
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_run_is_open_until_it_comes_to_an_end(pool: asyncpg.Pool, end: str) -> None:
    await wanted(pool)
    await Store(pool).requested("m-1")

    for handler, event in ENDS[end]():
        await hear(pool, handler, event)

    run = (await model(pool)).run
    assert run is not None
    assert run.state == "closed"


async def test_a_zombie_cannot_write_over_a_state_that_moved_on(pool: asyncpg.Pool) -> None:
    store = Store(pool)
    first = await store.move_state("s", 0, b"one")
    second = await store.move_state("s", first, b"two")

    with pytest.raises(Fenced):
        await store.move_state("s", first, b"zombie")
    with pytest.raises(Fenced):
        await store.move_state("s", 0, b"newcomer")

    assert await store.load_state("s") == (second, b"two")


async def test_an_altered_version_is_an_alert_until_it_is_retired_however_many_scorers_say_so(
    pool: asyncpg.Pool,
) -> None:
    said: dict[str, Any] = {"model": "m", "version": 2, "revision": 3}
    for scorer in range(2):
        failed = LoadFailed(**said, explanation=f"scorer {scorer}: Tampered", cause="integrity")
        await hear(pool, on.on_load_failed, failed, f"failed-{scorer}")
    await hear(pool, on.on_load_failed, LoadFailed(**said | {"version": 1}, explanation="no model"), "unloadable")
    for version in (1, 2, 2):
        await hear(pool, on.on_model_retired, ModelRetired(model="m", version=version, **SAID))

    alerts = [json.loads(row["value"]) for row in await pool.fetch("SELECT value FROM outbox ORDER BY position")]
    assert [(each["alert"], each.get("severity")) for each in alerts] == [
        ("m-altered-v2", "critical"),
        ("m-altered-v2", None),
    ]
    assert "version 2 was altered since it was signed" in alerts[0]["explanation"]
