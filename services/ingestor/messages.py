"""From Kafka's client to blocks of records."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaException, Message

from services.ingestor.domain.blocks import Block, Taken
from shared.reading import headers_of
from shared.settings import KafkaSettings

GROUP: Final = "modelbus.ingestor"
BATCH: Final = 10_000  # messages asked for at a time
log = logging.getLogger(__name__)


def client_settings(kafka: KafkaSettings) -> dict[str, Any]:
    """How the topics are consumed."""
    return kafka.librdkafka() | {
        "client.id": GROUP,
        "logger": log,
        "group.id": GROUP,
        "group.protocol": "consumer",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 600_000,  # an S3 that does not answer holds up a turn
        "fetch.wait.max.ms": 100,  # new partitions are fetched once the last request has been answered
        "queued.max.messages.kbytes": 8 * 1024,  # of it memory holds three times as much; 32 were no faster
        "fetch.queue.backoff.ms": 5,  # the usual second would be waited for whenever so much is fetched ahead
        "topic.metadata.refresh.interval.ms": 10_000,
    }


def failed(message: Any) -> bool:
    """Whether this is the client's word about an error, not a record.

    Raises:
        KafkaException: the client is beyond repair.
    """
    if error := message.error():
        if error.fatal():
            raise KafkaException(error)
        log.warning("%s: %s", message.topic(), error)
    return error is not None


def blocks_of(messages: Sequence[Any]) -> Iterator[tuple[str, Block]]:
    """The records of each topic."""
    present: set[Any] = set(map(Message.topic, messages))
    for topic in present:
        yield topic, _block([m for m in messages if m.topic() == topic] if len(present) > 1 else messages)


def _block(messages: Sequence[Any]) -> Block:
    return Block(
        partitions=np.fromiter(map(Message.partition, messages), dtype=np.int32, count=len(messages)),
        offsets=np.fromiter(map(Message.offset, messages), dtype=np.int64, count=len(messages)),
        keys=list(map(Message.key, messages)),
        values=list(map(Message.value, messages)),
        origin=lambda row: _taken(messages[row]),
    )


def _taken(message: Any) -> Taken:
    at = message.timestamp()[1]
    return Taken(message.partition(), message.offset(), at, message.key(), message.value(), headers_of(message))
