"""A scorer without transactions: nothing is lost, a kill may repeat, switches hold, and a stream may change over."""

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutSwitched
from schemas.events.registry import StreamApplied
from tests.scoring_world import Scorer, World, changed, scorers, until

pytestmark = pytest.mark.stack
FIELDS = {"guarantee": "at_least_once"}


def switched(world: World, revision: int) -> dict[int, int]:
    """Partition → the first offset under a revision."""
    events = [each.event for each in world.said(RolloutSwitched)]
    of_revision = [each for each in events if isinstance(each, RolloutSwitched) and each.revision == revision]
    return {each.partition: each.offset for each in of_revision}


async def test_without_accidents_every_record_is_answered_once_and_in_order(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("calm", **FIELDS)
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [scorer]:
        await until(lambda: len(switched(world, 1)) == 4)
        world.feed(2000)
        await until(lambda: len(world.predictions()) >= 2000)
        assert scorer.stop() == 0

    world.assert_exactly_once()


async def test_nothing_is_repeated_after_a_rest_or_a_stop(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("rest", **FIELDS)
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [scorer]:
        world.feed(1000)
        await until(lambda: world.committed() == 1000)
        scorer.stop(signal.SIGKILL)
        scorer.start()
        world.feed(1000)
        await until(lambda: len(world.predictions()) >= 2000)
        assert scorer.stop() == 0
        assert world.committed() == 2000
        scorer.start()
        world.feed(100)
        await until(lambda: len(world.predictions()) >= 2100)

    world.assert_exactly_once()


async def test_kills_may_repeat_answers_but_lose_none(stack: Stack, tmp_path: Path) -> None:
    world, rng = await World.made("rough", **FIELDS), random.Random(3)
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path, 2, batch_records=50) as pair:
        await until(lambda: len(switched(world, 1)) == 4)
        for _ in range(4):
            world.feed(500)
            victim = rng.choice(pair)
            victim.send(signal.SIGKILL)
            victim.process.wait()
            victim.start()
        await until(lambda: {each["event_id"] for each in world.predictions()} == set(world.fed))

    answers = {each["event_id"]: each for each in world.predictions()}
    assert all(answers[each["event_id"]] == each for each in world.predictions())
    assert {name: (each["partition"], each["offset"]) for name, each in answers.items()} == world.fed


async def test_nothing_is_answered_under_a_revision_before_the_offset_that_is_said(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("turn", **FIELDS)
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first))

    with scorers(tmp_path):
        await until(lambda: len(switched(world, 1)) == 4)
        world.feed(1000)
        world.say(changed(2, first, second, share=0.3))
        world.feed(1000)
        await until(lambda: len(switched(world, 2)) == 4)
        world.feed(500)
        await until(lambda: len(world.predictions()) >= 2500)

    offsets = switched(world, 2)
    for each in world.predictions():
        assert each["revision"] == (2 if each["offset"] >= offsets[each["partition"]] else 1)
    shadows = Counter(each["event_id"] for each in world.shadows())
    assert shadows == Counter(each["event_id"] for each in world.predictions() if each["revision"] == 2)


async def test_a_stream_that_changes_its_guarantee_goes_on_where_it_was(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("change")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [scorer]:
        await until(lambda: len(switched(world, 1)) == 4)
        for revision, guarantee in ((2, "at_least_once"), (3, "exactly_once")):
            world.feed(500)
            await until(lambda: len(world.predictions()) >= len(world.fed))
            spec = world.stream.model_copy(update={"guarantee": guarantee})
            world.say(StreamApplied(stream="change", revision=revision, spec=spec, actor="a test", reason="a test"))
            await until(lambda turn=revision: _assigned(scorer, "data.change") >= 4 * turn)
        world.feed(500)
        await until(lambda: len(world.predictions()) >= len(world.fed))

    world.assert_exactly_once()
    assert len(world.said(RolloutSwitched)) == 4


def _assigned(scorer: Scorer, topic: str) -> int:
    """How many of its partitions were assigned so far; other streams of this broker may be assigned with them."""
    return sum(line.count(f"{topic}[") for line in scorer.log().splitlines() if '"assigned {' in line)
