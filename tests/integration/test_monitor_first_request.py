"""From raw events to the first training request, on the real stack."""

from pathlib import Path

import pytest

from compose.embedded.stack import Stack
from schemas.events.monitor import TrainingRequested
from tests.conftest import own_stack  # noqa: F401  # it is this file's stack
from tests.integration.monitor_parts import Surroundings, data, label, minute, monitor_process, until

pytestmark = pytest.mark.stack


async def test_the_first_run_is_asked_for_once_when_enough_rows_matured_and_the_tables_hold_them(
    stack: Stack, tmp_path: Path
) -> None:
    world = Surroundings(stack)
    await world.declare()
    log = tmp_path / "monitor.log"

    async with monitor_process(log):
        world.publish("data", [data(i, minute(i)) for i in range(600)])
        world.publish("labels", [label(i, minute(i + 60), i % 3 == 0) for i in range(400)])
        world.committed("data", 1)
        first_labels = dict(world.ends["labels"])
        world.publish("labels", [label(i, minute(i + 60), i % 3 == 0) for i in range(400, 500)])
        await until(lambda: b"is ready" in log.read_bytes())
        assert not world.heard()
        cause = world.committed("labels", 7)
        await until(lambda: bool(world.heard()))
        world.publish("data", [data(i, minute(i)) for i in range(600, 900)])
        world.committed("data", 2)

    said = world.heard()
    assert len(said) == 1, log.read_text()
    event = said[0].event
    assert isinstance(event, TrainingRequested)
    assert (event.reason, event.run_id) == ("first", f"{world.model.model}-1")
    assert (event.cut.data_version, event.cut.labels_version) == (1, 7)
    assert said[0].correlation_id == event.run_id
    assert said[0].causation_id == cause
    assert event.cut.labels_offsets in (first_labels, world.ends["labels"])
    assert event.cut.time <= minute(600)
