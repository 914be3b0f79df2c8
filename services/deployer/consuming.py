"""The scorers' consumer, and what it takes: records by partition, then column by column."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer

from services.deployer.places import Record, Where
from services.deployer.predictions import Taken
from services.deployer.settings import ScorerSettings
from shared.errors import Fatal
from shared.settings import KafkaSettings

GROUP = "modelbus.scorer"
CONSUMER = {
    "group.protocol": "consumer",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",  # of offsets too: none is read while its transaction is open
    "fetch.wait.max.ms": 50,
}
Batch = Mapping[Where, Sequence[Record]]
log = logging.getLogger(__name__)


def consumer_of(kafka: KafkaSettings, settings: ScorerSettings, client: str) -> Consumer:
    """A member of the scorers' group."""
    ahead = max(10_000, settings.batch_records * 4)
    own = {"group.id": GROUP, "client.id": client, "queued.min.messages": ahead}
    return Consumer(kafka.librdkafka() | CONSUMER | own)


def by_partition(messages: Sequence[Record]) -> dict[Where, list[Record]]:
    """Without errors that pass.

    Raises:
        Fatal: an error that does not.
    """
    found: dict[Where, list[Record]] = defaultdict(list)
    for message in messages:
        if (error := message.error()) is None:
            found[message.topic(), message.partition()].append(message)
        elif error.fatal():
            raise Fatal(f"{message.topic()}: {error}")
        else:
            log.warning("%s: %s", message.topic(), error)
    return found


def columns_of(records: Sequence[Record]) -> Taken:
    """Records of one stream."""
    return Taken(
        partitions=[record.partition() for record in records],
        offsets=[record.offset() for record in records],
        keys=[record.key() for record in records],
        values=[record.value() for record in records],
    )
