"""A scorer on the real stack: every record answered once, switches fenced, a version that does not load left aside."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from compose.embedded.stack import Stack
from schemas.events.deployer import LoadFailed, RolloutSwitched
from schemas.topics import DATA, PREDICTIONS
from tests.scoring_world import World, changed, scorers, until

pytestmark = pytest.mark.stack


def answered(world: World, model: int = 0) -> Callable[[], bool]:
    return lambda: len(world.predictions(model)) >= len(world.fed)


async def test_a_champion_answers_every_record_once_in_its_partition_and_order(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("once")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [scorer]:
        await until(lambda: len(world.said(RolloutSwitched)) == 4)
        world.feed(2000)
        await until(answered(world))
        assert scorer.stop() == 0

    world.assert_exactly_once()
    assert {(each["arm"], each["version"], each["revision"]) for each in world.predictions()} == {("champion", 1, 1)}
