"""Scorers are killed and frozen while they serve; a reader that knows nothing of them finds each answer once."""

import asyncio
import random
import signal
import time
from pathlib import Path

import pytest

from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutSwitched
from services.deployer.domain.arms import is_canary
from tests.scoring_world import Scorer, World, changed, scorers, until

pytestmark = pytest.mark.stack
TRANSACTION_SECONDS = 2


@pytest.mark.parametrize("seed", [12])
async def test_kills_freezes_and_a_switch_lose_and_repeat_nothing(stack: Stack, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    world = await World.made(f"kill{seed}")
    first, second = world.release(1), world.release(2)
    world.say(changed(1, first))

    with scorers(tmp_path, 2, transaction_timeout_seconds=TRANSACTION_SECONDS, batch_records=100) as pair:
        await until(lambda: any("assigned" in scorer.log() for scorer in pair))
        for round_number in range(3):
            await torment(world, pair, rng, freeze=round_number % 2 == 1)
            if round_number == 1:
                await until(lambda: world.predictions() != [])
                world.say(changed(2, first, second, share=0.5))
        await until(lambda: settled(world, pair))

    world.assert_exactly_once()
    revisions = [(each["partition"], each["offset"], each["revision"]) for each in world.predictions()]
    assert {revision for *_, revision in revisions} == {1, 2}
    starts = {each.event.partition: each.event.offset for each in said(world) if each.event.revision == 2}
    assert all(revision == (2 if offset >= starts[partition] else 1) for partition, offset, revision in revisions)
    arms = {(each["entity"], each["arm"]) for each in world.predictions() if each["revision"] == 2}
    assert arms == {(entity, "canary" if is_canary(entity, "a-salt", 0.5) else "champion") for entity, _ in arms}
    shadow = [each["event_id"] for each in world.shadows()]
    assert sorted(shadow) == sorted(each["event_id"] for each in world.predictions() if each["revision"] == 2)


async def torment(world: World, pair: list[Scorer], rng: random.Random, *, freeze: bool) -> None:
    """Feed in pieces; somewhere among them one scorer dies, or freezes for longer than its transaction may last."""
    victim, moment = rng.choice(pair), rng.randrange(8)
    for piece in range(8):
        world.feed(150)
        if piece == moment:
            victim.ensure_running()
            victim.send(signal.SIGSTOP if freeze else signal.SIGKILL)
            struck = time.monotonic()
    if freeze:
        await asyncio.sleep(max(0.0, struck + 1.5 * TRANSACTION_SECONDS - time.monotonic()))
        victim.send(signal.SIGCONT)
    for scorer in pair:
        scorer.ensure_running()


def said(world: World) -> list:  # type: ignore[type-arg]  # envelopes of one event
    return world.said(RolloutSwitched)


def settled(world: World, pair: list[Scorer]) -> bool:
    for scorer in pair:
        scorer.ensure_running()
    return len(world.predictions()) >= len(world.fed)
