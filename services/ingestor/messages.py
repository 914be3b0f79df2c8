"""From Kafka's client to blocks of records."""

from typing import Any, Final

from services.ingestor.domain.blocks import Block, Taken
from shared.fetching import Fetched
from shared.settings import KafkaSettings

GROUP: Final = "modelbus.ingestor"
BATCH: Final = 20_000  # messages asked for at a time


def client_settings(kafka: KafkaSettings) -> dict[str, Any]:
    """How the topics are consumed."""
    return kafka.librdkafka() | {
        "client.id": GROUP,
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


def block_from(fetched: Fetched) -> Block:
    """The records of one topic."""

    def origin(row: int) -> Taken:
        return Taken(
            int(fetched.partitions[row]),
            int(fetched.offsets[row]),
            fetched.timestamp_ms(row),
            fetched.keys[row],
            fetched.values[row],
            fetched.headers(row),
        )

    return Block(
        partitions=fetched.partitions,
        offsets=fetched.offsets,
        keys=fetched.keys,
        values=fetched.values,
        origin=origin,
    )
