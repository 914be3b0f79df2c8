"""Topics made to measure."""

import asyncio
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.topics import (
    CORRECTIONS,
    DATA,
    DEAD_LETTER_ROOM_BYTES,
    DEAD_LETTERS,
    LABELS,
    LIFECYCLE,
    MAX_RECORD_BYTES,
    OPENLINEAGE,
    PREDICTIONS,
    SHADOW,
)
from shared.settings import KafkaSettings

_TIMESTAMPS = {"message.timestamp.type": "LogAppendTime"}  # 2013's events must not meet retention
_FOR_EVER = {"retention.ms": "-1", "cleanup.policy": "delete"}
_ROOMY = {"max.message.bytes": str(MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES)}


def control_topics(kafka: KafkaSettings) -> list[NewTopic]:
    """The six lifecycle topics, the dead letters and the lineage, kept for ever."""
    partitions = {topic.name: topic.partitions for topic in LIFECYCLE} | {DEAD_LETTERS: 1, OPENLINEAGE: 1}
    config = _TIMESTAMPS | _FOR_EVER | _ROOMY
    return [
        NewTopic(name, count, replication_factor=kafka.replication_factor, config=config)
        for name, count in partitions.items()
    ]


def stream_topics(kafka: KafkaSettings, stream: str, partitions: int) -> list[NewTopic]:
    """Data and labels of a stream."""
    config = _TIMESTAMPS | {"max.message.bytes": str(MAX_RECORD_BYTES)}
    return [
        NewTopic(family.of(stream), partitions, replication_factor=kafka.replication_factor, config=config)
        for family in (DATA, LABELS)
    ]


def model_topics(kafka: KafkaSettings, model: str, partitions: int) -> list[NewTopic]:
    """Outputs of a model, with as many partitions as its stream."""
    return [
        NewTopic(family.of(model), partitions, replication_factor=kafka.replication_factor, config=_TIMESTAMPS)
        for family in (PREDICTIONS, SHADOW, CORRECTIONS)
    ]


async def ensure_topics(kafka: KafkaSettings, topics: Iterable[NewTopic]) -> list[str]:
    """Create what is missing; racing creators are fine. Returns the names that were created now.

    Raises:
        confluent_kafka.KafkaException: the broker refused, or did not answer in 30 s.
    """
    return await asyncio.to_thread(_ensure_topics, kafka, list(topics))


def _ensure_topics(kafka: KafkaSettings, topics: list[NewTopic]) -> list[str]:
    admin = AdminClient(kafka.librdkafka())
    created = []
    for name, future in admin.create_topics(topics, operation_timeout=30, request_timeout=30).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created
