"""Plain reading of topics, read_committed, as a client does that knows nothing of the services' state."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas import envelope
from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.topics import DATA, DEAD_LETTERS, LABELS, LIFECYCLE, PREDICTIONS, SHADOW
from shared import reading
from shared.settings import KafkaSettings

_BATCH = 5000
_POLL_SECONDS = 0.1
_METADATA_SECONDS = 30.0
LIFECYCLE_TOPICS = tuple(topic.name for topic in LIFECYCLE)


def quietly(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of a client that does not write into the view; what goes wrong it raises, or is asked again."""
    return kafka.librdkafka() | {"log_level": 0}


class _Timed(msgspec.Struct):
    time: datetime


_DECODE_TIMED = msgspec.json.Decoder(_Timed).decode


class Raw(NamedTuple):
    """A record as the broker gives it; `timestamp_ms` is LogAppendTime."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes

    @property
    def where(self) -> tuple[int, int]:
        return self.partition, self.offset


class Said(NamedTuple):
    """A lifecycle event, and when the broker had it."""

    envelope: Envelope
    at: datetime

    @property
    def event(self) -> Event:
        return self.envelope.event


def said(raw: Raw) -> Said | None:
    """The event of a record of a lifecycle topic; None for a name not known here."""
    read = envelope.read(raw.headers, raw.value)
    return None if read is None else Said(read, datetime.fromtimestamp(raw.timestamp_ms / 1000, UTC))


def last_published(kafka: KafkaSettings, stream: str) -> datetime | None:
    """The latest time of the last records of a stream's data and labels; None when there are none."""
    consumer, where = open_at_beginning(kafka, [DATA.of(stream), LABELS.of(stream)])
    try:
        ends = {
            each: consumer.get_watermark_offsets(TopicPartition(*each), timeout=_METADATA_SECONDS) for each in where
        }
        last = [TopicPartition(*each, high - 1) for each, (low, high) in ends.items() if high > low]
        consumer.assign(last)
        unread = {(each.topic, each.partition) for each in last}
        times = []
        while unread:
            times += [_DECODE_TIMED(raw.value).time for raw in take(consumer, unread)]
        return max(times, default=None)
    finally:
        consumer.close()


def topics_of(stream: str, models: Iterable[str]) -> list[str]:
    """Every topic of a stream, its models, and the lifecycle."""
    outputs = [family.of(model) for model in models for family in (PREDICTIONS, SHADOW)]
    return [DATA.of(stream), LABELS.of(stream), *outputs, *LIFECYCLE_TOPICS, DEAD_LETTERS]


def open_at_beginning(kafka: KafkaSettings, topics: Iterable[str]) -> tuple[Consumer, set[tuple[str, int]]]:
    """A consumer of all partitions of these topics from their beginnings, in no group; and those partitions."""
    consumer = Consumer(
        quietly(kafka)
        | {
            "group.id": "modelbus.demo",  # asked for by the client; never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
        }
    )
    known = consumer.list_topics(timeout=_METADATA_SECONDS).topics
    where = {(topic, partition) for topic in topics for partition in known[topic].partitions}
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in where])
    return consumer, where


def take(consumer: Consumer, unread: set[tuple[str, int]]) -> Iterator[Raw]:
    """What is there now; partitions that are read to their end leave `unread`."""
    for message in reading.take(consumer, _BATCH, _POLL_SECONDS):
        error = message.error()
        if error is None:
            yield Raw(
                message.topic(),
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                [(name, value or b"") for name, value in reading.headers_of(message)],
                message.value() or b"",
            )
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name for it
            unread.discard((message.topic(), message.partition()))
        elif not error.retriable():
            raise KafkaException(error)


def read_all(kafka: KafkaSettings, topics: Iterable[str]) -> Iterator[Raw]:
    """Every committed record of these topics up to their ends, in order within each partition."""
    consumer, unread = open_at_beginning(kafka, topics)
    try:
        while unread:
            yield from take(consumer, unread)
    finally:
        consumer.close()
