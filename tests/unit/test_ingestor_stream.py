"""The ingestor's loop: one batch is read while the next is fetched."""

import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from confluent_kafka import TopicPartition

from services.ingestor.domain.blocks import Block
from services.ingestor.domain.sources import Source
from services.ingestor.intake import Intake
from services.ingestor.settings import Settings
from services.ingestor.stream import Stream
from shared.fetching import Fetched
from shared.settings import KafkaSettings
from shared.spans import Spans

TOPIC = "data.s"
BATCH = Fetched(
    topic=TOPIC,
    partitions=np.zeros(3, np.int32),
    offsets=np.arange(3),
    keys=Spans.of([b"a"] * 3),
    values=Spans.of([b"{}"] * 3),
    messages=np.zeros(3, np.int64),
)


class FakeConsumer:
    """Gives one full batch; what is asked for next does something first, and is nothing."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile, self.asked, self.done = meanwhile, 0, list[tuple[str, list[tuple[str, int]]]]()

    def fetch(self, _: int, __: float) -> list[Fetched]:
        self.asked += 1
        if self.asked == 1:
            return [BATCH]
        self.meanwhile()
        return []

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.done.append(("pause", [(each.topic, each.partition) for each in partitions]))

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.done.append(("resume", [(each.topic, each.partition) for each in partitions]))


class FakeIntake:
    """Its records are read once a partition has been given away, or not for long."""

    def __init__(self, error: Exception | None = None) -> None:
        self.source = Source(kind="data", owner="s", spec=cast("Any", None))
        self.held, self.ends = False, dict[int, int]()
        self.error, self.done, self.gone = error, list[str](), threading.Event()

    def at_limit(self, coming: int = 0) -> bool:
        return False

    def add(self, block: Block, _: float) -> None:
        self.gone.wait(0.3)
        self.done.append(f"read {len(block)}")
        if self.error:
            raise self.error

    def drop(self, partition: int) -> None:
        self.done.append(f"drop {partition}")
        self.gone.set()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    none = cast("Any", None)
    monkeypatch.setattr("services.ingestor.stream._TAKE_SECONDS", 60.0)  # it is not the clock that ends a turn
    for name in ("ColumnConsumer", "Parking"):  # no broker is asked
        monkeypatch.setattr(f"services.ingestor.stream.{name}", lambda *_: none)
    settings = Settings(commit_rows=len(BATCH))
    return Stream(kafka=KafkaSettings(bootstrap_servers="none:1"), pool=none, tables=none, settings=settings)


def taken(stream: Stream, intake: FakeIntake, meanwhile: Callable[[Stream], None]) -> None:
    stream._consumer = cast("Any", FakeConsumer(lambda: meanwhile(stream)))
    stream._intakes = {TOPIC: cast("Intake", intake)}
    stream._take()


def revoked(stream: Stream) -> None:
    stream._revoked([TopicPartition(TOPIC, 0)])


def test_a_partition_is_given_away_once_what_was_fetched_of_it_has_been_read(stream: Stream) -> None:
    intake = FakeIntake()

    taken(stream, intake, revoked)

    assert intake.done == ["read 3", "drop 0"]


@pytest.mark.parametrize("meanwhile", [lambda _: None, revoked])
def test_what_ends_the_reading_ends_the_loop_and_partitions_are_given_away_all_the_same(
    stream: Stream,
    meanwhile: Callable[[Stream], None],
) -> None:
    intake = FakeIntake(RuntimeError("a bug"))

    with pytest.raises(RuntimeError, match="a bug"):
        taken(stream, intake, meanwhile)

    assert intake.done == ["read 3", *(["drop 0"] if meanwhile is revoked else [])]


def test_what_is_held_and_released_are_the_partitions_that_are_owned(stream: Stream) -> None:
    consumer, intake = FakeConsumer(), FakeIntake()
    stream._consumer = cast("Any", consumer)

    intake.ends = {0: 5, 1: 0, 2: 7}
    stream._hold_or_release(cast("Intake", intake), True)
    intake.ends = {0: 5, 2: 7}
    stream._hold_or_release(cast("Intake", intake), False)

    assert consumer.done == [("pause", [(TOPIC, 0), (TOPIC, 1), (TOPIC, 2)]), ("resume", [(TOPIC, 0), (TOPIC, 2)])]
    assert not intake.held
