"""A storm of alerts on the real store and broker, the monitor restarted in it: one run, and one follow-up."""

import json
import math
import random
from datetime import UTC, datetime
from typing import TypeVar

import asyncpg
import msgspec
import pytest

from compose.embedded.stack import Stack
from schemas.envelope import Envelope, read
from schemas.events.base import Event
from schemas.events.deployer import RolloutChanged, RolloutSwitched
from schemas.events.ingestor import DatasetCommitted
from schemas.events.monitor import AlertRaised, TrainingRequested
from schemas.events.parts import Release
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.events.trainer import TrainingFailed
from schemas.topics import PREDICTIONS
from services.monitor import handlers as on
from services.monitor.app import MIGRATIONS
from services.monitor.settings import Settings
from services.monitor.watch import Watch
from shared.bus import Handler
from shared.kafka import ensure_topics, model_topics, stream_topics
from shared.objects import Objects
from shared.outbox import unit_of_work
from shared.settings import S3Settings
from tests.conftest import PoolFor
from tests.integration.monitor_parts import Surroundings, data, label, minute, model_spec, stream_spec
from tests.unit.monitor_cases import candidate, reference_document

pytestmark = pytest.mark.stack
WINDOW = 100
WINDOWS = 30  # every third one has drifted far
ROUNDS = 17  # of a window: 510 decisions in all
Said = TypeVar("Said", bound=Event)
SAID = {"revision": 1, "actor": "tests", "reason": "tests"}


async def test_a_storm_of_alerts_makes_one_run_and_drift_during_it_one_follow_up(
    stack: Stack, pool_for: PoolFor
) -> None:
    pool, world, rng = await pool_for("monitor", [MIGRATIONS]), _world(stack), random.Random(3)
    await _serve(pool, world)
    watch = _watch(pool, world)

    for window in range(WINDOWS):
        _flow(world, range(window * WINDOW, (window + 1) * WINDOW), rng, shift=2.0 * (window % 3 == 1))
        await _commit(pool, world, window + 1)
        for _ in range(ROUNDS):
            await watch.round()
        if window % 4 == 1:  # in the storm, a window being open
            watch.close()
            watch = _watch(pool, world)
        if window == WINDOWS // 2:
            assert [each.run_id for each in await _said(pool, TrainingRequested)] == [f"{world.model.model}-1"]
            failed = TrainingFailed(model=world.model.model, run_id=f"{world.model.model}-1", reason="crashed",
                                    explanation="tests")  # fmt: skip
            await _hear(pool, on.on_training_failed, failed)
    watch.close()

    requests = await _said(pool, TrainingRequested)
    assert [each.run_id for each in requests] == [f"{world.model.model}-{number}" for number in (1, 2)]
    assert {each.reason for each in requests} == {"drift"}
    assert len(await _said(pool, AlertRaised)) >= WINDOWS // 3 - 1


def _world(stack: Stack) -> Surroundings:
    world = Surroundings(stack)
    soon = {"label": {"type": "bool", "delay": "10m"}, "lateness": "10m"}
    world.stream = stream_spec(world.stream.stream, **soon)
    training = {"window": "30d", "min_rows": 100, "estimators": ["logistic_regression"]}
    world.model = model_spec(
        world.model.model, world.stream.stream, monitoring={"window": WINDOW}, training=training,
        retraining={"on": ["drift"], "cooldown": "6h"},
    )  # fmt: skip
    return world


def _watch(pool: asyncpg.Pool, world: Surroundings) -> Watch:
    return Watch(pool=pool, kafka=world.kafka, objects=Objects(S3Settings()), settings=Settings(snapshot_seconds=0.1))


async def _serve(pool: asyncpg.Pool, world: Surroundings) -> None:
    """Version 1 serves, from the first event on."""
    stream, model = world.stream, world.model
    await ensure_topics(world.kafka, stream_topics(world.kafka, stream.stream, stream.partitions))
    await ensure_topics(world.kafka, model_topics(world.kafka, model.model, stream.partitions))
    artifact = await Objects(S3Settings()).put(json.dumps(reference_document()).encode())
    release = Release(version=1, candidate=candidate(1, stream, model, reference=artifact))
    serving = RolloutChanged(
        model=model.model, stream_spec=stream, revision=1, phase="serving", champion=release, challenger=None, share=0,
        salt="", step=0, reason="tests",
    )  # fmt: skip
    await _hear(pool, on.on_stream_applied, StreamApplied(stream=stream.stream, spec=stream, **SAID))
    await _hear(pool, on.on_model_applied, ModelApplied(model=model.model, spec=model, stream_spec=stream, **SAID))
    await _hear(pool, on.on_rollout_changed, serving)
    for partition in range(stream.partitions):
        switched = RolloutSwitched(model=model.model, stream=stream.stream, partition=partition, offset=0, revision=1)
        await _hear(pool, on.on_rollout_switched, switched)


def _flow(world: Surroundings, indices: range, rng: random.Random, shift: float) -> None:
    """Events, the champion's answers, and labels five minutes late."""
    records = [data(i, minute(i), heat=rng.gauss(shift, 1), kind=rng.choice("ab")) for i in indices]
    places: dict[str, tuple[int, int]] = {}
    world.publish("data", records, places)
    world.publish("labels", [label(i - 5, minute(i), i % 3 == 0) for i in indices if i >= 5])
    for record in records:
        partition, offset = places[record["id"]]
        score = 1 / (1 + math.exp(-record["features"]["heat"]))
        answer = {
            "id": f"{record['id']}@{world.model.model}:1", "event_id": record["id"], "entity": record["entity"],
            "model": world.model.model, "version": 1, "arm": "champion", "revision": 1, "partition": partition,
            "offset": offset, "score": score, "label": False, "time": record["time"],
        }  # fmt: skip
        world.producer.produce(PREDICTIONS.of(world.model.model), msgspec.json.encode(answer), record["entity"])
    assert world.producer.flush(30) == 0


async def _commit(pool: asyncpg.Pool, world: Surroundings, version: int) -> None:
    """The tables hold everything that was published."""
    for kind in ("data", "labels"):
        event = DatasetCommitted(
            stream=world.stream.stream, kind=kind, table=kind, version=version, offsets=world.ends[kind], rows_added=1,
            rows_total=1, time_min=None, time_max=None,
        )  # type: ignore[arg-type]  # fmt: skip
        await _hear(pool, on.on_dataset_committed, event, f"{kind}@{version}")


async def _hear(pool: asyncpg.Pool, handler: Handler, event: Event, event_id: str = "cause") -> None:
    said = Envelope(
        id=event_id, source="tests", time=datetime.now(UTC), correlation_id="lifecycle", causation_id=None,
        traceparent=None, event=event,
    )  # fmt: skip
    async with unit_of_work(pool, "monitor", said) as work:
        await handler(event, work)


async def _said(pool: asyncpg.Pool, kind: type[Said]) -> list[Said]:
    """What stands in the outbox; no relay takes it away."""
    rows = await pool.fetch("SELECT value, headers FROM outbox ORDER BY position")
    words = [read([(name, value.encode()) for name, value in row["headers"]], row["value"]) for row in rows]
    return [word.event for word in words if word is not None and isinstance(word.event, kind)]
