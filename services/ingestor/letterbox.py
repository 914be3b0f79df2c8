"""The dead letters without those of an entity: what is to stay is written anew, and what was before is deleted."""

import hashlib
from collections.abc import Callable
from itertools import chain
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.topics import DEAD_LETTERS
from services.ingestor.parking import producer_of
from shared.dead_letters import Place, kept_headers, origin_of
from shared.errors import Fault
from shared.reading import Message, Reader, headers_of
from shared.settings import KafkaSettings

_DELIVERY_SECONDS = 30
Doomed = Callable[[Message], bool]


class Letterbox:
    """Letters and marks, whoever wrote them. A broker deletes the oldest records of a partition only, all up to one."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def find(self, doomed: Doomed) -> set[tuple[int, Place]]:
        """Of those that are to go, the partition and the place of the record they are about."""
        with Reader(self._kafka, "modelbus.ingestor") as reader:
            return {
                (partition, origin)
                for partition, span in reader.spans(DEAD_LETTERS).items()
                for message in chain.from_iterable(reader.read(DEAD_LETTERS, partition, *span))
                if doomed(message) and (origin := origin_of(headers_of(message)))
            }

    def clear(self, doomed: Doomed) -> None:
        """Of a process that dies in between, some letters stand there twice until the next one is done.

        Raises:
            Fault: not all that stays was written anew, and nothing was deleted.
            confluent_kafka.KafkaException: the broker refused or did not answer.
        """
        for partition in {partition for partition, _ in self.find(doomed)}:
            with Reader(self._kafka, "modelbus.ingestor") as reader:
                span = reader.spans(DEAD_LETTERS)[partition]
                stay = (m for m in chain.from_iterable(reader.read(DEAD_LETTERS, partition, *span)) if not doomed(m))
                self._write(partition, stay)
            admin = AdminClient(self._kafka.librdkafka())  # answers end with it
            place = TopicPartition(DEAD_LETTERS, partition, span[1])
            for answer in admin.delete_records([place], operation_timeout=_DELIVERY_SECONDS).values():
                answer.result(_DELIVERY_SECONDS)

    def _write(self, partition: int, letters: Any) -> None:
        failures, written = list[Any](), set[bytes]()
        producer = producer_of(self._kafka, "letterbox", _DELIVERY_SECONDS)

        def delivered(error: Any, _: object) -> None:
            if error is not None:
                failures.append(error)

        for each in letters:
            headers = kept_headers(headers_of(each), each.timestamp()[1])
            said = {"key": each.key(), "value": each.value(), "headers": headers, "partition": partition}
            if (digest := _digest(each.key(), each.value(), headers)) in written:
                continue  # one that an earlier process had written anew when it died
            written.add(digest)
            while True:
                try:
                    producer.produce(DEAD_LETTERS, on_delivery=delivered, **said)
                    break
                except BufferError:
                    producer.poll(1)
        if (unsent := producer.flush(_DELIVERY_SECONDS + 5)) or failures:
            raise Fault(f"{unsent + len(failures)} dead letters were not written anew {failures[:1]}")


def _digest(*parts: Any) -> bytes:
    """16 bytes of a letter, so that a million of them take no more than what they say does."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
