"""The scorers' consumer, and what it takes: records by partition, then column by column."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, Message

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
    "group.remote.assignor": "range",  # the usual one evens out the sum, and gives one scorer all of a stream
    "fetch.queue.backoff.ms": 5,  # the usual second would be waited for whenever enough is fetched ahead
}
_OF: Any = Message  # its own types allow for None everywhere
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
    records = _sound(messages) if any(map(_OF.error, messages)) else messages
    found: dict[Where, list[Record]] = defaultdict(list)
    wheres = zip(map(_OF.topic, records), map(_OF.partition, records), strict=True)
    for where, record in zip(wheres, records, strict=True):
        found[where].append(record)
    return found


def _sound(messages: Sequence[Record]) -> list[Record]:
    for message in messages:
        if (error := message.error()) is None:
            continue
        if error.fatal():
            raise Fatal(f"{message.topic()}: {error}")
        log.warning("%s: %s", message.topic(), error)
    return [message for message in messages if message.error() is None]


def columns_of(records: Sequence[Record]) -> Taken:
    """Records of one stream."""
    return Taken(
        partitions=list(map(_OF.partition, records)),
        offsets=list(map(_OF.offset, records)),
        keys=list(map(_OF.key, records)),
        values=list(map(_OF.value, records)),
    )
