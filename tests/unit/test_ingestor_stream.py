"""The ingestor's loop: one batch is read while the next is fetched."""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Message, TopicPartition
from pydantic import SecretStr

from services.ingestor.domain.blocks import Block
from services.ingestor.intake import Intake
from services.ingestor.settings import Settings
from services.ingestor.stream import Stream
from shared.settings import KafkaSettings, S3Settings
from shared.tables import Tables

TOPIC = "data.s"
BATCH = [Message(topic=TOPIC, partition=0, offset=offset, key=b"a", value=b"{}") for offset in range(3)]


class FakeConsumer:
    """Gives one full batch; what is asked for next does something first, and is nothing."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.answers = [lambda: BATCH, lambda: meanwhile() or []]

    def consume(self, _: int, __: float) -> list[Message]:
        return self.answers.pop(0)()


class FakeIntake:
    """Its records are read once a partition has been given away, or not for long."""

    def __init__(self, error: Exception | None = None) -> None:
        self.ends: dict[int, int] = {}
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


def stream_of(intake: FakeIntake, meanwhile: Callable[[Stream], None]) -> Stream:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    s3 = S3Settings(endpoint="127.0.0.1:1", access_key="a", secret_key=SecretStr("b"))
    pool = cast("Any", None)
    stream = Stream(kafka=kafka, pool=pool, tables=Tables(s3), settings=Settings(commit_rows=len(BATCH)))
    stream._consumer = cast("Any", FakeConsumer(lambda: meanwhile(stream)))
    stream._intakes = {TOPIC: cast("Intake", intake)}
    return stream


def revoked(stream: Stream) -> None:
    stream._revoked(stream._consumer, [TopicPartition(TOPIC, 0)])


def test_a_partition_is_given_away_once_what_was_fetched_of_it_has_been_read() -> None:
    intake = FakeIntake()

    stream_of(intake, revoked)._take()

    assert intake.done == ["read 3", "drop 0"]


@pytest.mark.parametrize("meanwhile", [lambda _: None, revoked])
def test_what_ends_the_reading_ends_the_loop_and_partitions_are_given_away_all_the_same(
    meanwhile: Callable[[Stream], None],
) -> None:
    intake = FakeIntake(RuntimeError("a bug"))

    with pytest.raises(RuntimeError, match="a bug"):
        stream_of(intake, meanwhile)._take()

    assert intake.done == ["read 3", *(["drop 0"] if meanwhile is revoked else [])]
