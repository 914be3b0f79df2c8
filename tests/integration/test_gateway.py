"""The Open Inference Protocol on the real stack: requests are events, and scorers answer them by the rollout."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from compose.embedded.stack import Stack
from schemas.events.deployer import RolloutSwitched
from services.deployer.domain.arms import is_canary
from tests.gateway_world import Gateway, asking, gateway, output
from tests.scoring_world import World, changed, scorers, until

pytestmark = pytest.mark.stack
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
async def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[World, Gateway]]:
    """A champion and a canary of a third of the entities, a scorer and a gateway."""
    world = await World.made("asked", models=2)
    world.say(changed(1, world.release(1), world.release(2), share=0.3))
    folder = tmp_path_factory.mktemp("asked")
    with scorers(folder), gateway(folder) as running:
        await until(lambda: running.serves("asked-m0"))
        await until(lambda: len(world.said(RolloutSwitched)) >= world.stream.partitions)
        yield world, running


async def test_a_request_is_answered_by_the_arm_that_the_rollout_gives_its_entity(
    served: tuple[World, Gateway],
) -> None:
    world, running = served
    entities = [f"machine-{number}" for number in range(40)]

    answer = await asyncio.to_thread(running.infer, "asked-m0", asking(40, entities, id="42"))

    assert answer.status_code == 200, answer.text
    assert (answer.json()["id"], answer.json()["model_name"]) == ("42", "asked-m0")
    assert output(answer, "version") == [2 if is_canary(each, "a-salt", 0.3) else 1 for each in entities]
    committed = {each["id"]: each for each in world.predictions()}
    found = [committed[each] for each in output(answer, "prediction_id")]
    assert [each["score"] for each in found] == output(answer, "score")
    assert [each["label"] for each in found] == output(answer, "label")
    assert [each["entity"] for each in found] == entities
    assert [each["event_id"] for each in found] == output(answer, "event_id")
