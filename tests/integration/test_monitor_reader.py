"""What the monitor's reader holds in memory, on a real broker."""

from collections.abc import Iterator

import pytest

from compose.embedded.stack import Stack
from schemas.topics import DATA, LABELS
from services.monitor.domain.facts import StreamFacts
from services.monitor.stream import Reader
from tests.integration.monitor_parts import Surroundings, data, label, minute, until

pytestmark = pytest.mark.stack
RECORDS = 10_000
BUDGET = 1000  # a share of 250 for each of four partitions


@pytest.fixture
async def world(stack: Stack) -> Surroundings:
    world = Surroundings(stack)
    await world.declare()
    return world


@pytest.fixture
def reader(world: Surroundings) -> Iterator[Reader]:
    reader = Reader(world.kafka, f"monitor.{world.stream.stream}")
    yield reader
    reader.close()


async def test_labels_that_nobody_takes_are_not_held_beyond_their_share_and_come_later_without_a_gap(
    world: Surroundings, reader: Reader
) -> None:
    stream = world.stream.stream
    world.publish("labels", [label(i, minute(i), True) for i in range(RECORDS)])
    world.publish("data", [data(i, minute(i)) for i in range(RECORDS)])
    facts = StreamFacts(spec=world.stream)
    positions: dict[str, dict[int, int]] = {}
    read: dict[tuple[str, int], list[int]] = {}

    for blocked in (LABELS.of(stream), ""):
        while True:
            lanes = reader.read(reader.ends(facts), positions, BUDGET)
            assert reader.held() < 5 * BUDGET
            for where, lane in lanes.items():
                lane.taken = 0 if where[0] == blocked else len(lane.records)
                read.setdefault(where, []).extend(offset for offset, _ in lane.records[: lane.taken])
                positions.setdefault(where[0], {})[where[1]] = len(read[where])
            reader.taken(lanes)
            if all(lane.at_end for where, lane in lanes.items() if where[0] != blocked):
                break

    ends = {
        (family.of(stream), partition): world.ends[kind].get(partition, 0)
        for family, kind in ((DATA, "data"), (LABELS, "labels"))
        for partition in range(world.stream.partitions)
    }
    assert sum(ends.values()) == 2 * RECORDS
    assert read == {where: list(range(end)) for where, end in ends.items()}


async def test_there_are_no_ends_while_a_partition_of_the_stream_is_not_there(
    world: Surroundings, reader: Reader
) -> None:
    wider = world.stream.model_copy(update={"partitions": world.stream.partitions + 1})

    await until(lambda: bool(reader.ends(StreamFacts(spec=world.stream))))
    assert reader.ends(StreamFacts(spec=wider)) == {}
