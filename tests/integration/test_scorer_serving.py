"""A scorer on the real stack: every record answered once, switches fenced, a version that does not load left aside."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from compose.embedded.stack import Stack
from schemas.events.deployer import LoadFailed, RolloutSwitched
from schemas.records import PredictionRecord
from schemas.topics import DATA, PREDICTIONS
from services.deployer.domain.arms import is_canary
from tests.scoring_world import Scorer, World, changed, free_port, scorers, until

pytestmark = pytest.mark.stack
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def all_answered(world: World, model: int = 0) -> Callable[[], bool]:
    return lambda: len(world.predictions(model)) >= len(world.fed)


def all_switched(world: World, revision: int = 1) -> Callable[[], bool]:
    return lambda: len(switches(world, revision)) >= world.stream.partitions * len(world.models)


def switches(world: World, revision: int) -> dict[tuple[str, int], int]:
    """First offset under a revision, of each model and partition; asserts that each was said once."""
    found = [each.event for each in world.said(RolloutSwitched)]
    of_revision = [each for each in found if isinstance(each, RolloutSwitched) and each.revision == revision]
    first = {(each.model, each.partition): each.offset for each in of_revision}
    assert len(first) == len(of_revision)
    return first


async def test_a_champion_answers_every_record_once_in_its_partition_and_order(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("once", models=2)
    for model in range(2):
        world.say(changed(1, world.release(model + 1, model)))

    with scorers(tmp_path) as [scorer]:
        await until(all_switched(world))
        world.feed(2000)
        await until(lambda: all_answered(world, 0)() and all_answered(world, 1)())
        assert scorer.stop() == 0

    for model in range(2):
        world.assert_exactly_once(model)
    served = {(each["arm"], each["version"], each["revision"]) for each in world.predictions()}
    assert served == {("champion", 1, 1)}


async def test_a_prediction_says_what_it_answers_in_its_value_and_its_headers(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("words")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path):
        await until(all_switched(world))
        world.feed(1)
        await until(all_answered(world))

    [message] = world.read(PREDICTIONS.of("words-m0"))
    prediction, headers = PredictionRecord.model_validate_json(message.value()), dict(message.headers())
    assert prediction.id == "e0@words-m0:1"
    assert prediction.label == (prediction.score >= 0.5)
    assert message.key() == b"machine-0"
    assert headers["ce_id"].decode() == prediction.id
    assert (headers["ce_type"], headers["ce_subject"]) == (b"modelbus.record.prediction.v1", b"machine-0")
    assert headers["ce_dataschema"] == b"modelbus:schemas/record.prediction/v1.1.json"


async def test_a_switch_takes_hold_on_busy_and_on_idle_partitions_at_the_offset_it_says(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("switch")
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first))

    with scorers(tmp_path):
        await until(all_switched(world))
        world.feed(1000, only=0)
        await until(all_answered(world))
        world.say(changed(2, first, second, share=0.3), traceparent=TRACE)
        world.feed(3000, only=0)
        await until(all_switched(world, 2))
        world.feed(500, only=0)
        await until(all_answered(world))

    world.assert_exactly_once()
    offsets = switches(world, 2)
    assert {partition: offsets["switch-m0", partition] for partition in (1, 2, 3)} == {1: 0, 2: 0, 3: 0}
    for prediction in world.predictions():
        assert prediction["revision"] == (2 if prediction["offset"] >= offsets["switch-m0", 0] else 1)
    said = [each for each in world.said(RolloutSwitched) if each.event.revision == 2]  # type: ignore[attr-defined]
    assert {(each.correlation_id, (each.traceparent or "")[:35]) for each in said} == {("a-run", TRACE[:35])}


async def test_the_other_arm_scores_every_event_to_shadow_and_entities_keep_their_arm(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("pairs")
    world.say(changed(1, world.release(1), world.release(2), share=0.3))

    with scorers(tmp_path):
        await until(all_switched(world))
        world.feed(1000)
        await until(all_answered(world))

    served, shadow = world.predictions(), world.shadows()
    world.assert_exactly_once()
    assert {each["arm"] for each in shadow} == {"shadow"}
    versions = {each["event_id"]: each["version"] for each in served}
    assert {each["event_id"]: 3 - each["version"] for each in shadow} == versions
    for each in served:
        canary = is_canary(each["entity"], "a-salt", 0.3)
        assert (each["arm"], each["version"]) == (("canary", 2) if canary else ("champion", 1))
    assert {each["arm"] for each in served} == {"canary", "champion"}


async def test_what_the_stream_refuses_is_skipped_and_what_is_odd_is_flagged(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("odd", partitions=1)
    world.say(changed(1, world.release(1)))
    event = b'{"id":"%s","entity":"m","time":"2013-01-01T00:00:00Z","features":{%s}}'
    producer = Producer(world.kafka.librdkafka())
    for key, value in (
        (b"m", b"no json"),
        (b"m", None),
        (b"m", event % (b"unknown", b'"size":1')),
        (b"m", event % (b"wrong", b'"heat":"hot"')),
        (b"m", event % (b"far", b'"heat":9')),
        (None, event % (b"keyless", b'"heat":1')),
        (b"m", event % (b"again", b'"colour":"pink"')),
        (b"m", event % (b"again", b'"colour":"pink"')),
    ):
        producer.produce(DATA.of("odd"), value, key)
    assert producer.flush(20) == 0

    with scorers(tmp_path):
        await until(lambda: len(world.predictions()) >= 4)

    answers = [(each["event_id"], each["offset"], each.get("flags", [])) for each in world.predictions()]
    assert answers == [
        ("far", 4, ["out_of_range:heat"]),
        ("keyless", 5, []),
        ("again", 6, ["unseen:colour"]),
        ("again", 7, ["unseen:colour"]),
    ]


async def test_a_version_that_does_not_load_is_said_and_the_old_one_goes_on(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("broken")
    first = world.release(1)
    world.say(changed(1, first))

    with scorers(tmp_path):
        await until(all_switched(world))
        world.say(changed(2, first, world.release(2, onnx=b"this is no model")))
        await until(lambda: len(world.said(LoadFailed)) >= 1)
        world.feed(500)
        await until(all_answered(world))

    [failed] = [each.event for each in world.said(LoadFailed)]
    assert isinstance(failed, LoadFailed)
    assert (failed.version, failed.revision) == (2, 2)
    assert "UnsafeModel" in failed.explanation
    world.assert_exactly_once()
    assert {each["revision"] for each in world.predictions()} == {1}


async def hold_back(world: World, scorer: Scorer) -> None:
    """Let it serve version 2, and start again with records to answer where it can load version 1 only."""
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first))
    world.say(changed(2, second))
    await until(all_switched(world, 2))
    scorer.stop(signal.SIGKILL)
    await world.remove(second)
    world.feed(200)
    scorer.start()
    await until(lambda: "held back" in scorer.log())


async def test_a_new_owner_serves_nothing_below_what_its_partitions_were_served_under(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("fence")

    with scorers(tmp_path) as [scorer]:
        await hold_back(world, scorer)
        assert world.predictions() == []
        world.release(2)
        await until(all_answered(world))

    world.assert_exactly_once()
    assert {(each["version"], each["revision"]) for each in world.predictions()} == {(2, 2)}
    assert len(switches(world, 2)) == 4


async def test_a_partition_that_was_held_back_when_it_left_is_read_when_it_comes_back(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("return")

    with scorers(tmp_path) as [one]:
        await hold_back(world, one)
        other = Scorer(1, tmp_path)
        try:
            await until(lambda: "held back" in other.log())
            world.release(2)
            world.feed(500)
            await until(all_answered(world))
        finally:
            assert other.stop() == 0
        world.feed(500)
        await until(all_answered(world))

    world.assert_exactly_once()


async def test_a_scorer_that_can_load_nothing_takes_no_partitions_from_one_that_has(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("spared")
    release = world.release(1)
    world.say(changed(1, release))

    with scorers(tmp_path) as [one]:
        await until(all_switched(world))
        await world.remove(release)
        other = Scorer(1, tmp_path)
        try:
            await until(lambda: "is not in the store" in other.log())
            world.feed(1000)
            await until(all_answered(world))
            assert "data.spared" not in other.log()
            world.release(1)
            await until(lambda: "data.spared" in other.log())
            assert one.stop() == 0
            world.feed(500)
            await until(all_answered(world))
        finally:
            assert other.stop() == 0

    world.assert_exactly_once()


async def test_records_before_a_first_champion_are_consumed_and_counted(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("early", partitions=1)
    port = free_port()

    with scorers(tmp_path, http_port=port) as [scorer]:
        world.feed(300)
        await until(lambda: scorer.metric('modelbus_scorer_unserved_total{model="early-m0"}') == 300)
        world.say(changed(1, world.release(1)))
        await until(all_switched(world))
        world.feed(100)
        await until(lambda: len(world.predictions()) >= 100)

    assert switches(world, 1) == {("early-m0", 0): 300}
    assert sorted(each["offset"] for each in world.predictions()) == list(range(300, 400))


async def test_two_scorers_share_the_partitions_and_hand_them_over(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("share")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [one]:
        await until(all_switched(world))
        world.feed(3000)
        other = Scorer(1, tmp_path)
        try:
            await until(lambda: "assigned" in other.log())
            world.feed(3000)
            await until(all_answered(world))
            assert one.stop() == 0
            world.feed(1000)
            await until(all_answered(world))
        finally:
            assert other.stop() == 0

    world.assert_exactly_once()
    assert len(switches(world, 1)) == 4


async def test_each_stream_is_spread_over_all_scorers(stack: Stack, tmp_path: Path) -> None:
    worlds = [await World.made(name) for name in ("fair", "square")]
    for world in worlds:
        world.say(changed(1, world.release(1)))

    with scorers(tmp_path, 2, http_port=free_port(2)) as pair:
        await until(lambda: [scorer.owned(each.stream.stream) for scorer in pair for each in worlds] == [2, 2, 2, 2])
