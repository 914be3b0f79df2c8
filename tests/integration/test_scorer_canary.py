"""A canary's share of the traffic, on real topics: who is in it, who stays, and what goes on while it is loaded."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from compose.embedded.folder import LOOPBACK
from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutSwitched
from tests.chaos.proxy import BOTH, Proxy, Weather
from tests.scoring_world import Scorer, World, changed, scorers, until

pytestmark = pytest.mark.stack
ENTITIES = 10_000


async def test_ten_thousand_entities_keep_their_arm_through_kills_and_rebalances_and_only_enter_the_canary(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("share10k")
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first, second, share=0.1))

    with scorers(tmp_path) as [one]:
        await fed(world, ENTITIES)
        other = Scorer(1, tmp_path)
        try:
            await until(lambda: "assigned" in other.log())
            await fed(world, ENTITIES)
            begun = world.committed()
            feeding = asyncio.create_task(fed(world, ENTITIES))
            await until(lambda: world.committed() > begun, every=0.01)
            one.stop(signal.SIGKILL)
            await feeding
            one.start()
            world.say(changed(2, first, second, share=0.25))
            await until(lambda: switched(world, 2))
            await fed(world, ENTITIES)
        finally:
            other.stop()

    world.assert_exactly_once()
    before, after = canaries(world, 1), canaries(world, 2)
    assert len(before["canary"] | before["champion"]) == len(after["canary"] | after["champion"]) == ENTITIES
    assert not before["canary"] & before["champion"]
    assert not after["canary"] & after["champion"]
    assert abs(len(before["canary"]) / ENTITIES - 0.1) <= 0.01
    assert abs(len(after["canary"]) / ENTITIES - 0.25) <= 0.01
    assert before["canary"] < after["canary"]


async def test_the_version_before_answers_while_the_next_one_is_on_its_way(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("nogap")
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first))
    store = Proxy(target=int(os.environ["MODELBUS_S3_ENDPOINT"].rpartition(":")[2]))
    await store.start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODELBUS_S3_ENDPOINT", f"{LOOPBACK}:{store.port}")
        with scorers(tmp_path):
            await until(lambda: switched(world, 1))
            with store.under(Weather(holds=BOTH)):
                world.say(changed(2, second))
                for _ in range(10):
                    await fed(world, 10)
                assert {each["version"] for each in world.predictions()} == {1}
            while not await asyncio.to_thread(switched, world, 2):
                await fed(world, 10)
            await fed(world, 10)
    store.stop()

    world.assert_exactly_once()
    assert {each["version"] for each in world.predictions()} == {1, 2}


async def fed(world: World, count: int) -> None:
    """Feed, and wait for all answers."""
    await asyncio.to_thread(world.feed, count, ENTITIES)
    await until(lambda: len(world.predictions()) == len(world.fed), every=0.05)


def switched(world: World, revision: int) -> bool:
    """Whether all partitions did."""
    said = [each.event for each in world.said(RolloutSwitched)]
    return sum(each.revision == revision for each in said if isinstance(each, RolloutSwitched)) == 4


def canaries(world: World, revision: int) -> dict[str, set[str]]:
    """Entities by the arm that answered them under a revision."""
    found: dict[str, set[str]] = {"canary": set(), "champion": set()}
    for each in world.predictions():
        if each["revision"] == revision:
            found[each["arm"]].add(each["entity"])
    return found
