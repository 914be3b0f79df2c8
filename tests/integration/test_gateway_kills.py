"""Requests whose gateway dies, whose scorer is away, and that are too many."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from compose.embedded.stack import Stack
from schemas.topics import DATA, PREDICTIONS
from tests.gateway_world import asking, gateway, output
from tests.scoring_world import World, changed, scorers, until

pytestmark = pytest.mark.stack


async def test_a_request_outlives_the_gateway_that_took_it_and_waits_for_a_scorer(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("killed")
    world.say(changed(1, world.release(1)))

    with gateway(tmp_path, deadline_seconds=120) as running:  # in which a scorer starts, on any machine
        await until(lambda: running.serves("killed-m0"))
        abandoned = asyncio.create_task(asyncio.to_thread(running.infer, "killed-m0", asking(3)))
        await until(lambda: len(world.read(DATA.of("killed"))) == 3)
        running.stop(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            await abandoned
        running.start()
        await until(lambda: running.serves("killed-m0"))
        waiting = asyncio.create_task(asyncio.to_thread(running.infer, "killed-m0", asking(2)))
        await until(lambda: len(world.read(DATA.of("killed"))) == 5)
        with scorers(tmp_path):
            answer = await waiting
        assert running.stop() == 0

    assert answer.status_code == 200
    assert len(world.read(PREDICTIONS.of("killed-m0"))) == 5
    assert set(output(answer, "prediction_id")) <= {each["id"] for each in world.predictions()}


async def test_no_answer_in_time_and_too_many_rows_at_once_are_told(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("late")
    world.say(changed(1, world.release(1)))

    with gateway(tmp_path, deadline_seconds=4, max_in_flight=1000) as running:
        await until(lambda: running.serves("late-m0"))
        late = asyncio.create_task(asyncio.to_thread(running.infer, "late-m0", asking(999)))
        await until(lambda: "modelbus_gateway_in_flight_rows 999" in running.metrics())
        busy = await asyncio.to_thread(running.infer, "late-m0", asking(2))
        answer = await late

    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert answer.status_code == 504
    assert "999 of 999 events stand in data.late and will have theirs in predictions.late-m0" in answer.json()["error"]
