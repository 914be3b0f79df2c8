"""Reads stretches of partitions as any read_committed client does, in no group, up to an end that was known before."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from operator import methodcaller
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from schemas import envelope
from schemas.envelope import Envelope, NotAnEvent
from shared.dead_letters import Headers
from shared.errors import Fault
from shared.records import PREDICTIONS, UNREADABLE, Prediction
from shared.settings import KafkaSettings

Message: TypeAlias = Any  # a confluent_kafka.Message that holds a record; its own types allow for None everywhere
Holds: TypeAlias = Callable[[Message], bool | None]
_HEADERS: Callable[[Message], Headers | None] = methodcaller("headers")
_POLL_SECONDS = 0.2
_ASK_SECONDS = 30.0
_PAUSE_SECONDS = 0.2
_NO_LEADER = frozenset({KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION})
_STALLED_SECONDS = 60.0  # longer than an open transaction may hold up its readers


class Reader:
    """A consumer at places of the caller's choice; use it as a context manager.

    Raises:
        confluent_kafka.KafkaException: the broker refused or did not answer, from every method.
    """

    def __init__(self, kafka: KafkaSettings, group: str, batch_records: int = 200) -> None:
        self._batch_records = batch_records
        self.consumer = Consumer(
            kafka.librdkafka()
            | {
                "group.id": group,  # asked for by the client; never joined
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16 * 1024,
            }
        )
        self._admin = AdminClient(kafka.librdkafka())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.consumer.close()

    def spans(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset and end of each partition; the end counts what is not committed yet, so nothing is missed."""
        found = self.consumer.list_topics(topic, timeout=_ASK_SECONDS).topics[topic]
        if found.error:
            raise KafkaException(found.error)
        first = self._ask(topic, found.partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # no types
        end = self._ask(topic, found.partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # no types
        return {partition: (first[partition], end[partition]) for partition in sorted(found.partitions)}

    def _ask(self, topic: str, partitions: Mapping[int, object], spec: OffsetSpec) -> dict[int, int]:
        """A partition that was made a moment ago, or whose broker has just come back, has no leader yet."""
        asked = {TopicPartition(topic, partition): spec for partition in partitions}
        deadline = time.monotonic() + _ASK_SECONDS
        while True:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ASK_SECONDS
            )
            try:
                return {place.partition: answer.result(_ASK_SECONDS).offset for place, answer in answers.items()}
            except KafkaException as error:
                if error.args[0].code() not in _NO_LEADER or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[list[Message]]:
        """The committed records from `start` up to `end`, batch by batch; waits for transactions open below `end`.

        Raises:
            Fault: the end does not come within reach in a minute.
        """
        if start >= end:
            return
        self.consumer.assign([TopicPartition(topic, partition, start)])
        deadline = time.monotonic() + _STALLED_SECONDS
        while True:
            records, place = _sorted(take(self.consumer, self._batch_records, _POLL_SECONDS))
            if wanted := [record for record in records if record.offset() < end]:
                deadline = time.monotonic() + _STALLED_SECONDS
                yield wanted
            if place >= end:
                return
            if time.monotonic() > deadline:
                raise Fault(f"{topic}[{partition}]: no end at {end} in {_STALLED_SECONDS:.0f} s, read up to {place}")

    def first(self, topic: str, partition: int, span: tuple[int, int], holds: Holds) -> int:
        """The offset from which on `holds`, which once true stays true; the end of the span when it never is.

        Where it is None, the record says nothing.
        """
        low, high = span
        while high - low > self._batch_records:
            middle = (low + high) // 2
            records = chain.from_iterable(self.read(topic, partition, middle, high))
            said = next(((record, held) for record in records if (held := holds(record)) is not None), None)
            if said is None or said[1]:
                high = middle
            else:
                low = said[0].offset() + 1
        for record in chain.from_iterable(self.read(topic, partition, low, high)):
            if held := holds(record):
                break
            if held is False:
                low = record.offset() + 1
        return low


def take(consumer: Consumer, most: int, seconds: float) -> list[Message]:
    """What is there, after waiting so long for the first; `Consumer.consume` alone waits until there are `most`."""
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def headers_of(record: Message) -> Headers:
    """A record's headers, as its producer wrote them; none where a name is not UTF-8.

    The protocol does not check names, and the client has no text for such a one: it returns, with an error pending, a
    list that must not be looked into, and when asked again that list alone. Where a method is called directly and
    often, Python does not look for pending errors, and raises them at what comes next; a `methodcaller` always looks.
    """
    try:
        return _HEADERS(record) or ()
    except SystemError:
        record.set_headers([])
        return ()


def envelope_of(record: Message) -> Envelope | None:
    """What a record of a lifecycle topic says; None for a name not known here.

    Raises:
        UnknownMajor, NotAnEvent: as `envelope.read` raises them.
    """
    return envelope.read(headers_of(record), record.value() or b"")


def heard(records: Iterable[Message]) -> Iterator[Envelope]:
    """What records of a lifecycle topic say; poison was parked when it was met."""
    for record in records:
        try:
            said = envelope_of(record)
        except NotAnEvent:
            continue
        if said is not None:
            yield said


def prediction_of(record: Message) -> Prediction | None:
    """What a scorer answered; None for what no scorer wrote."""
    try:
        return PREDICTIONS.decode(record.value() or b"")
    except (msgspec.ValidationError, *UNREADABLE):
        return None


def _sorted(messages: list[Message]) -> tuple[list[Message], int]:
    """The records, and the offset that reading has come to: past the last record, or where an end was met."""
    records, place = [], 0
    for message in messages:
        if (error := message.error()) is None:
            records.append(message)
            place = message.offset() + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # the client's own name for it
            place = message.offset()
        elif not error.retriable():
            raise KafkaException(error)
    return records, place
