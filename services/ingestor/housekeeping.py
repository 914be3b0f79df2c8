"""Removes what no table version to be kept needs: all of the last days are kept, and those that models were trained on.

A model's versions pin theirs when they are registered (model.registered names the cut); until then the cut is young.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from deltalake.exceptions import DeltaError
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from schemas.topics import REGISTRY, LifecycleTopic
from services.ingestor import metrics
from services.ingestor.domain.retention import idle_entries, idle_files, oldest_kept
from services.ingestor.domain.sources import Source
from services.ingestor.settings import Settings
from services.ingestor.store import Store
from shared.errors import Fault
from shared.postgres import AWAY
from shared.settings import KafkaSettings
from shared.tables import Tables, erased_before

_ASK_SECONDS = 20
_FAILURES = (DeltaError, Fault, KafkaException, MinioException, HTTPError, asyncpg.PostgresError, *AWAY)
log = logging.getLogger(__name__)


class Housekeeper:
    """Cleans every table once in a while; several at a time remove the same things."""

    def __init__(self, *, kafka: KafkaSettings, pool: asyncpg.Pool, tables: Tables, settings: Settings) -> None:
        self._kafka = kafka
        self._pool = pool
        self._tables = tables
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled; what fails is tried again the next time."""
        while True:
            await asyncio.sleep(self._settings.clean_seconds)
            with _told("any table"):
                await self.clean_all(datetime.now(UTC) - timedelta(days=self._settings.keep_days))

    async def clean_all(self, cutoff: datetime) -> None:
        """Remove what only versions older than `cutoff` need; nothing while a pin may be unheard."""
        if not await asyncio.to_thread(heard_all, self._kafka, "ingestor", REGISTRY):
            log.info("not cleaned: events of the registry wait to be heard")
            return
        async with self._pool.acquire() as connection:
            sources = await Store(connection).sources()
        for source in sources.values():
            with _told(source.table):
                await self._clean(source, cutoff)

    async def _clean(self, source: Source, cutoff: datetime) -> None:
        async with self._pool.acquire() as connection:
            store = Store(connection)
            pinned, said = await store.pinned(source), await store.announced(source.table)
        removed = await asyncio.to_thread(clean, self._tables, source, pinned, said, cutoff)
        metrics.REMOVED.labels(source.table).inc(removed)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        log.warning("not cleaned: %s: %r", what, error)


def clean(tables: Tables, source: Source, pinned: Collection[int], said: int, cutoff: datetime) -> int:
    """Remove what a table's pinned versions, and those of `cutoff` and later, do not need; returns how many objects.

    The log is kept from version `said` on: what comes after it has not been announced yet.

    Raises:
        NoTable, deltalake.exceptions.DeltaError: a version to be kept does not open; then nothing is removed.
        Fault, minio.error.MinioException: S3 failed; what is removed is removed.
    """
    kind, owner = source.kind, source.owner
    stored = tables.stored(kind, owner)
    if (since := oldest_kept(stored, cutoff)) is None:
        return 0
    erased = erased_before(tables.open(kind, owner))
    pinned = {max(version, erased) for version in pinned}  # a pin yields to an erasure
    used = set[str]().union(*(tables.files(kind, owner, version) for version in {None, since, *pinned}))
    entries = idle_entries(stored, pinned, min(since, max(said, 0)))
    files = idle_files(stored, used, cutoff)
    tables.remove(kind, owner, sorted(entries))
    tables.remove(kind, owner, sorted(files))
    return len(entries) + len(files)


def heard_all(kafka: KafkaSettings, service: str, topic: LifecycleTopic) -> bool:
    """Whether a service has heard everything that stood in a lifecycle topic when this was asked."""
    asking = Consumer(kafka.librdkafka() | {"group.id": f"modelbus.{service}.{topic.writer}"})
    try:
        places = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
        ends = [asking.get_watermark_offsets(place, timeout=_ASK_SECONDS)[1] for place in places]
        heard = asking.committed(places, timeout=_ASK_SECONDS)
        return all(place.offset >= end or end == 0 for place, end in zip(heard, ends, strict=True))
    finally:
        asking.close()
