"""What a fallen version answered is withdrawn: one correction a prediction, however often the deployer is killed."""

import asyncio
import json
import random
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from cli.radius import Served
from cli.rollouts import counted
from compose.embedded.stack import Stack
from schemas.events.base import Event
from schemas.events.deployer import CorrectionsPublished, PredictionsWithdrawn, RolloutChanged, RolloutSwitched
from schemas.events.registry import ModelRegistered, RolloutOrdered
from schemas.records import CorrectionRecord, PredictionRecord
from schemas.topics import CORRECTIONS, PREDICTIONS
from shared.reading import Reader
from tests.integration.test_deployer_rollout import deployer, measured
from tests.scoring_world import EPOCH, Scorer, World, scorers, until

pytestmark = pytest.mark.stack


def revision(world: World) -> int:
    """The highest that was said."""
    return max((each.event.revision for each in world.said(RolloutChanged)), default=0)  # type: ignore[attr-defined]


def switched_to(world: World, number: int) -> bool:
    found = [each.event for each in world.said(RolloutSwitched)]
    return len({each.partition for each in found if each.revision >= number}) == world.stream.partitions  # type: ignore[attr-defined]


def register(world: World, version: int) -> None:
    release = world.release(version)
    model = world.models[0].model
    world.say(ModelRegistered(model=model, version=version, release=release, gates=(), approval="none"))


def rolled_back(world: World) -> Event:
    return RolloutOrdered(model=world.models[0].model, order="rollback", actor="ada", reason="it was wrong")


def published(world: World) -> list[CorrectionsPublished]:
    return [each.event for each in world.said(CorrectionsPublished) if isinstance(each.event, CorrectionsPublished)]


def assert_withdrawn(world: World, expected: list[dict[str, Any]]) -> None:
    """Each of these predictions has one correction, in its partition and order, and nothing else has."""
    found = world.read(CORRECTIONS.of(world.models[0].model))
    corrections = [CorrectionRecord.model_validate_json(message.value()) for message in found]
    said = [
        (message.partition(), each.prediction_id, each.offset) for message, each in zip(found, corrections, strict=True)
    ]
    assert said == [(each["partition"], each["id"], each["offset"]) for each in expected]
    assert all(message.key() == each.entity.encode() for message, each in zip(found, corrections, strict=True))
    [event] = published(world)
    by_partition = Counter(each["partition"] for each in expected)
    assert event.count == len(expected)
    assert event.partitions == {partition: by_partition[partition] for partition in range(world.stream.partitions)}


async def test_a_rollback_withdraws_what_the_canary_served_and_nothing_else(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("undone")
    model = world.models[0].model

    async def serve(number: int, count: int) -> None:
        await until(lambda: switched_to(world, number))
        world.feed(count)
        await until(lambda: len(world.predictions()) >= len(world.fed))

    with deployer(), scorers(tmp_path):
        register(world, 1)
        await serve(1, 300)
        register(world, 2)
        await serve(2, 300)
        world.say(measured(model, 2))
        await serve(3, 600)
        world.say(rolled_back(world))
        await serve(4, 300)
        await until(lambda: len(published(world)) == 1)

    world.assert_exactly_once()
    canary = [each for each in world.predictions() if each["version"] == 2]
    assert {each["revision"] for each in canary} == {3}
    assert_withdrawn(world, canary)
    [withdrawn] = world.said(PredictionsWithdrawn)
    [said] = world.said(CorrectionsPublished)
    assert (said.causation_id, said.correlation_id) == (withdrawn.id, withdrawn.correlation_id)
    first = world.read(CORRECTIONS.of(model))[0]
    correction, headers = CorrectionRecord.model_validate_json(first.value()), dict(first.headers())
    assert (correction.withdrawn_by, correction.arm) == (4, "canary")
    assert "it was wrong" in correction.reason
    assert (headers["ce_type"], headers["ce_causationid"]) == (b"modelbus.record.correction.v1", withdrawn.id.encode())


async def test_the_blast_radius_is_what_was_served_and_corrected_through_kills_of_scorers_and_deployer(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("corrected")
    model = world.models[0].model

    def kill(process: Scorer) -> None:
        process.stop(signal.SIGKILL)
        process.start()

    with scorers(tmp_path, 2) as pair:
        with deployer() as process:
            for version in (1, 2):
                register(world, version)
                await until(lambda version=version: switched_to(world, version))  # type: ignore[misc]
            world.say(measured(model, 2))
            await until(lambda: switched_to(world, 3))
            for scorer in pair:
                feeding = asyncio.create_task(asyncio.to_thread(world.feed, 3000))
                begun = world.committed()
                await until(lambda begun=begun: world.committed() > begun, every=0.01)  # type: ignore[misc]
                kill(scorer)
                await feeding
            world.say(rolled_back(world))
            await until(lambda: revision(world) == 4)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with deployer():
            world.feed(1000)
            await until(lambda: len(published(world)) == 1)
            await until(lambda: len(world.predictions()) >= len(world.fed))

    world.assert_exactly_once()
    canary = [each for each in world.predictions() if each["version"] == 2]
    assert_withdrawn(world, canary)
    steps = [_step(world, each.event) for each in world.said(RolloutChanged)]
    parts = counted(model, Served.of(2, steps))
    served = Counter(each["partition"] for each in canary)
    assert {partition: part.predictions for partition, part in parts.items()} == {
        each: served[each] for each in range(4)
    }
    assert sum(part.beyond for part in parts.values()) == 0


def _step(world: World, changed: Any) -> dict[str, Any]:
    """A revision as the registry tells it."""
    said = [each.event for each in world.said(RolloutSwitched)]
    switched = {str(each.partition): each.offset for each in said if each.revision == changed.revision}  # type: ignore[attr-defined]
    challenger = changed.challenger and changed.challenger.version
    return {
        "revision": changed.revision, "champion": changed.champion.version, "challenger": challenger,
        "share": changed.share, "switched": switched,
    }  # fmt: skip


def answer(world: World, count: int, version: int, number: int) -> list[dict[str, Any]]:
    """As scorers would: so many predictions by one version under one revision, in every partition."""
    model = world.models[0].model
    producer = Producer(world.kafka.librdkafka() | {"linger.ms": 20})
    said = []
    for index in range(count):
        partition, offset = index % world.stream.partitions, number * 1_000_000 + index
        prediction = PredictionRecord(
            id=f"e{offset}@{model}:{version}",
            event_id=f"e{offset}",
            entity=f"machine-{index % 100}",
            model=model,
            version=version,
            arm="champion",
            revision=number,
            partition=partition,
            offset=offset,
            score=0.5,
            label=True,
            time=EPOCH + timedelta(seconds=index),
        )
        while True:
            try:
                producer.produce(PREDICTIONS.of(model), prediction.model_dump_json(), prediction.entity, partition)
                break
            except BufferError:
                producer.poll(0.1)
        said.append(prediction.model_dump(mode="json"))
    assert producer.flush(60) == 0
    return sorted(said, key=lambda each: (each["partition"], each["offset"]))


def write_foreign(world: World, value: bytes | None) -> None:
    """What no scorer wrote must not stop anybody."""
    producer = Producer(world.kafka.librdkafka())
    for partition in range(world.stream.partitions):
        producer.produce(PREDICTIONS.of(world.models[0].model), value, b"a stranger", partition)
    assert producer.flush(20) == 0


def end_of(reader: Reader, topic: str) -> int:
    return sum(end for _, end in reader.spans(topic).values())


@pytest.mark.parametrize("seed", [5])
async def test_a_deployer_that_is_killed_at_any_moment_publishes_each_correction_once(stack: Stack, seed: int) -> None:
    rng = random.Random(seed)
    world = await World.made(f"felled{seed}")
    model = world.models[0].model
    for version in (1, 2):
        register(world, version)
    world.say(RolloutOrdered(model=model, order="promote", actor="ada", reason="sure"))
    with deployer():
        await until(lambda: revision(world) == 3)
    answer(world, 4000, 1, 1)
    for foreign in (b"no prediction", None):
        write_foreign(world, foreign)
    fallen = answer(world, 60_000, 2, 3)
    world.say(rolled_back(world))
    for partition in range(world.stream.partitions):
        place = {"partition": partition, "offset": 4_000_000, "revision": 4}
        world.say(RolloutSwitched(model=model, stream=world.stream.stream, **place))
    answer(world, 4000, 1, 4)

    topic = CORRECTIONS.of(model)
    standing = []
    with Reader(world.kafka, "tests") as reader:
        for _ in range(3):
            size = end_of(reader, topic)
            with deployer() as process:
                await until(
                    lambda size=size: end_of(reader, topic) > size or published(world) != [], 60, rng.random() / 50
                )  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait()
            standing.append(len(world.read(topic)))
    assert any(0 < each < len(fallen) for each in standing)  # in the middle of it, at least once
    with deployer():
        await until(lambda: len(published(world)) == 1)

    assert_withdrawn(world, fallen)
    assert json.loads(world.read(CORRECTIONS.of(model))[0].value())["arm"] == "champion"


async def felled(world: World) -> None:
    """A version that was promoted, rolled back, and serves nowhere any more."""
    model = world.models[0].model
    for version in (1, 2):
        register(world, version)
    for order in ("promote", "rollback"):
        world.say(RolloutOrdered(model=model, order=order, actor="ada", reason="sure"))
    await until(lambda: revision(world) == 4)
    for partition in range(world.stream.partitions):
        place = {"partition": partition, "offset": 0, "revision": 4}
        world.say(RolloutSwitched(model=model, stream=world.stream.stream, **place))


async def test_a_withdrawal_that_cannot_be_published_holds_up_no_other(stack: Stack) -> None:
    stuck, free = await World.made("stuck"), await World.made("free")
    fallen = answer(stuck, 400, 2, 3)
    topic, admin = CORRECTIONS.of(stuck.models[0].model), AdminClient(stuck.kafka.librdkafka())
    admin.delete_topics([topic])[topic].result()
    await until(lambda: topic not in admin.list_topics(timeout=20).topics)
    admin.create_topics([NewTopic(topic, 1)])[topic].result()

    with deployer():
        await felled(stuck)
        await felled(free)
        await until(lambda: len(published(free)) == 1)
        assert published(stuck) == []
        admin.create_partitions([NewPartitions(topic, stuck.stream.partitions)])[topic].result()
        await until(lambda: len(published(stuck)) == 1)

    assert_withdrawn(free, [])
    assert_withdrawn(stuck, fallen)


async def test_what_never_served_is_withdrawn_with_no_corrections(stack: Stack) -> None:
    world = await World.made("unseen")
    model = world.models[0].model
    for version in (1, 2):
        register(world, version)
    world.say(RolloutOrdered(model=model, order="promote", actor="ada", reason="sure"))
    world.say(rolled_back(world))
    with deployer():
        await until(lambda: revision(world) == 4)
        assert published(world) == []
        for partition in range(world.stream.partitions):
            place = {"partition": partition, "offset": 0, "revision": 4}
            world.say(RolloutSwitched(model=model, stream=world.stream.stream, **place))
        await until(lambda: len(published(world)) == 1)

    assert_withdrawn(world, [])
