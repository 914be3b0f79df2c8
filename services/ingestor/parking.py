"""Parks records that break their stream's contract: key, bytes and headers untouched where they fit, and why."""

import logging
from collections import Counter
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.topics import DEAD_LETTER_ROOM_BYTES, DEAD_LETTERS, MAX_RECORD_BYTES
from services.ingestor.domain.blocks import Refused
from services.ingestor.domain.letters import body_of
from shared import metrics
from shared.dead_letters import DeadLetter, Origin
from shared.errors import DeadLetterFailed, Fault
from shared.settings import KafkaSettings

_DELIVERY_SECONDS = 20
log = logging.getLogger(__name__)


def producer_of(kafka: KafkaSettings, name: str, seconds: int) -> Producer:
    """A producer of dead letters, each delivered in so many seconds or given up."""
    return Producer(
        kafka.librdkafka()
        | {
            "client.id": f"modelbus-ingestor-{name}",
            "logger": log,
            "enable.idempotence": True,
            "delivery.report.only.error": True,
            "linger.ms": 100,  # what is parked is flushed
            "compression.type": "lz4",
            "message.max.bytes": MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES,
            "delivery.timeout.ms": seconds * 1000,
        }
    )


class Parking:
    """Writes dead letters; returns when the broker has them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._producer = producer_of(kafka, "parking", _DELIVERY_SECONDS)
        self._failures: list[KafkaError] = []

    def park(self, topic: str, refused: Iterable[Refused]) -> None:
        """Write one letter per record; a record parked twice has two letters of one origin.

        Raises:
            Fault: at least one was not acknowledged; park them all again.
            DeadLetterFailed: nothing can be parked any more.
        """
        self._failures.clear()
        reasons = [self._write(topic, each) for each in refused]
        unsent = self._producer.flush(_DELIVERY_SECONDS + 5) if reasons else 0
        if any(error.fatal() for error in self._failures):
            raise DeadLetterFailed(f"{topic}: {self._failures[0]}")
        if unsent or self._failures:
            raise Fault(
                f"{topic}: {unsent + len(self._failures)} dead letters were not acknowledged {self._failures[:1]}"
            )
        for reason, count in Counter(reasons).items():
            metrics.DEAD_LETTERS.labels("ingestor", reason).inc(count)

    def _write(self, topic: str, refused: Refused) -> str:
        taken = refused.taken
        origin = Origin(topic, taken.partition, taken.offset, taken.timestamp_ms)
        letter = DeadLetter(
            origin=origin,
            service="ingestor",
            reason=refused.reason,
            error=refused.error,
            attempts=refused.attempts,
            original_headers=taken.headers,
        )
        key, value, headers = body_of(letter, taken)
        while True:
            try:
                self._producer.produce(DEAD_LETTERS, value, key, on_delivery=self._delivered, headers=[*headers])
            except BufferError:
                self._producer.poll(1)
            except KafkaException as error:
                raise DeadLetterFailed(f"{origin}: {error}") from error
            else:
                return refused.reason

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failures.append(error)
