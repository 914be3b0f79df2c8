"""Where owned partitions stand, and the fence: what was committed with their offsets."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from shared.errors import Fatal

Where = tuple[str, int]  # topic, partition
Record: TypeAlias = Any  # a confluent_kafka.Message that holds a record; its own types allow for None everywhere
_FENCE = msgspec.json.Decoder(dict[str, int])
_PLACING_SECONDS = 30.0  # an owner that froze holds its partitions' offsets until its transaction times out
_REQUEST_SECONDS = 5.0


@dataclass(kw_only=True)
class Place:
    """The next offset to answer in a partition, and the revision that each model is served under there."""

    position: int
    revisions: dict[str, int] = field(default_factory=dict)

    def is_ahead_of(self, revisions: Mapping[str, int]) -> bool:
        """Whether the partition was served under something newer; then it must not be served under `revisions`.

        >>> Place(position=0, revisions={"a": 2}).is_ahead_of({"a": 1, "b": 7})
        True
        """
        return any(revisions.get(model, 0) < revision for model, revision in self.revisions.items())

    def to_commit(self, where: Where) -> TopicPartition:
        """The offset, with the fence as its metadata."""
        return TopicPartition(where[0], where[1], self.position, metadata=msgspec.json.encode(self.revisions).decode())


def read_places(consumer: Consumer, wheres: Sequence[Where]) -> dict[Where, Place]:
    """What is committed for these partitions; those never committed stand at their beginning.

    The consumer reads committed offsets only: while a former owner's transaction is open there is no answer.

    Raises:
        Fatal: no answer in 30 s, or metadata that is no fence.
    """
    deadline = time.monotonic() + _PLACING_SECONDS
    while True:
        try:
            asked = [TopicPartition(topic, partition) for topic, partition in wheres]
            return {(each.topic, each.partition): _place(consumer, each) for each in _committed(consumer, asked)}
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise Fatal(f"committed offsets of {list(wheres)}: {error}") from error
            time.sleep(0.1)  # the client answers some errors at once


def _committed(consumer: Consumer, asked: list[TopicPartition]) -> list[TopicPartition]:
    found: list[TopicPartition] = consumer.committed(asked, timeout=_REQUEST_SECONDS)
    if failed := [each.error for each in found if each.error]:
        raise KafkaException(failed[0])
    return found


def _place(consumer: Consumer, committed: TopicPartition) -> Place:
    if committed.offset == OFFSET_INVALID:
        low, _ = consumer.get_watermark_offsets(committed, timeout=_REQUEST_SECONDS)
        return Place(position=low)
    try:
        return Place(position=committed.offset, revisions=_FENCE.decode(committed.metadata or "{}"))
    except msgspec.DecodeError as error:
        raise Fatal(
            f"{committed.topic}[{committed.partition}]: expected a fence, got {committed.metadata!r}"
        ) from error
