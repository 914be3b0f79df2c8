"""Takes entities out of what is kept, as the registry orders: out of tables, with all older versions, and dead letters.

An erasure is of the past: it reaches as far as the topics did when the order was heard, and waits until the tables
have come there. What it takes is counted first; all that follows can be done again from its start, whoever dies
meanwhile. Tables are appended to all along: who is late, the one or the other, begins again from the newest version.
"""

import asyncio
import io
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import KafkaException
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from schemas.events.ingestor import Affected, DatasetCommitted, EntityErased, ErasedTable, Remainder
from schemas.events.parts import Offsets
from schemas.topics import DATA, REGISTRY
from services.ingestor.announcements import METADATA, Announcer, offsets_of
from services.ingestor.domain.retention import idle_entries, idle_files
from services.ingestor.domain.sources import Source
from services.ingestor.housekeeping import heard_all
from services.ingestor.letterbox import Letterbox
from services.ingestor.store import Erasure, Pin, Store
from shared import telemetry
from shared.dead_letters import origin_of
from shared.erasure import Held, expiries, last_records, names, rows_of
from shared.errors import Fault
from shared.objects import Objects
from shared.outbox import unit_of_work
from shared.postgres import AWAY
from shared.reading import Message, Reader, headers_of
from shared.settings import KafkaSettings
from shared.tables import NoTable, Tables, erase, supersede

_LOOK_SECONDS, _BACK_OFF_SECONDS = 1.0, 5.0
_ATTEMPTS = 50  # to be the next to write to a table
_UNDER_WAY = timedelta(hours=1)  # longer than any commit, and than clocks of a store differ
_FAILURES = (
    *(DeltaError, Fault, KafkaException, MinioException, HTTPError, asyncpg.PostgresError, pa.ArrowException),
    *AWAY,
)
log = logging.getLogger(__name__)
Ends = Mapping[str, Offsets]  # by topic


class Eraser:
    """One erasure after the other, in one process at a time."""

    def __init__(self, *, kafka: KafkaSettings, pool: asyncpg.Pool, tables: Tables, objects: Objects) -> None:
        self._kafka = kafka
        self._pool = pool
        self._tables = tables
        self._objects = objects
        self._announcer = Announcer(pool)
        self._letterbox = Letterbox(kafka)

    async def run(self) -> None:
        """Until cancelled; what fails is tried again."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    if await Store(connection).lead_erasures():
                        for erasure in await Store(connection).erasures():
                            await self._try(erasure)
            except _FAILURES as error:
                log.warning("erasures are not known: %r", error)
                await asyncio.sleep(_BACK_OFF_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _try(self, erasure: Erasure) -> None:
        """One that fails does not hold up the others."""
        try:
            await self._go_on(erasure)
        except _FAILURES as error:
            log.warning("%s is not erased yet: %r", erasure.receipt, error)
            await asyncio.sleep(_BACK_OFF_SECONDS)

    async def _go_on(self, erasure: Erasure) -> None:
        if not erasure.said:
            if (reach := await self._ready(erasure)) is None:
                return
            with telemetry.span("erase entity", parent=erasure.traceparent):
                await self._erase(erasure, *reach)
        await self._objects.remove(erasure.receipt)
        async with self._pool.acquire() as connection:
            await Store(connection).close_erasure(erasure.receipt)

    async def _ready(self, erasure: Erasure) -> tuple[list[Source], Ends] | None:
        """What it reaches, and up to where; None while the tables have not come there."""
        if erasure.ends is None and not await asyncio.to_thread(heard_all, self._kafka, "ingestor", REGISTRY):
            return None  # of a stream, of a model, of a version that was trained
        async with self._pool.acquire() as connection:
            known = (await Store(connection).sources()).values()
        ends = erasure.ends or await self._reaching(erasure, known)
        sources = [source for source in known if source.topic in ends]
        if erasure.found is None and not await asyncio.to_thread(self._reached, sources, ends):
            return None
        return sources, ends

    async def _erase(self, erasure: Erasure, sources: list[Source], ends: Ends) -> None:
        entity = json.loads(await self._objects.get(erasure.receipt))["entity"]
        found = erasure.found or await self._survey(erasure, entity, sources, ends)
        await asyncio.to_thread(self._letterbox.clear, lambda letter: is_of(letter, entity, ends))
        tables = []
        for source in sources:
            if held := found["tables"].get(source.table):
                wanted = rows_of(entity, ends[source.topic])
                table = await asyncio.to_thread(self._rewrite, source, wanted)
                await self._announcer.announce(source.table, table)
                await asyncio.to_thread(purge, self._tables, source, table.version(), wanted)
                tables.append(ErasedTable(table=source.table, version=table.version(), **held))
        await self._say(erasure, tables, found)

    async def _say(self, erasure: Erasure, tables: list[ErasedTable], found: Mapping[str, Any]) -> None:
        said = EntityErased(
            receipt=erasure.receipt,
            tables=tuple(tables),
            letters=found["letters"],
            remaining=tuple(Remainder.model_validate(each) for each in found["remaining"]),
            affected=tuple(Affected.model_validate(each) for each in found["affected"]),
        )
        async with unit_of_work(self._pool, "ingestor") as work:
            causes = {"correlation_id": erasure.correlation_id, "causation_id": erasure.event_id}
            await work.emit(said, id=f"{said.event}:{erasure.receipt}", **causes)
            await Store(work.connection).said_erased(erasure.receipt)

    async def _reaching(self, erasure: Erasure, known: Iterable[Source]) -> Ends:
        ends = await asyncio.to_thread(self._ends, [each for each in known if each.spec.stream in erasure.streams])
        async with self._pool.acquire() as connection:
            await Store(connection).erase_before(erasure.receipt, ends)
        return ends

    def _ends(self, sources: list[Source]) -> Ends:
        with Reader(self._kafka, "modelbus.ingestor") as reader:
            return {source.topic: {p: end for p, (_, end) in reader.spans(source.topic).items()} for source in sources}

    def _reached(self, sources: list[Source], ends: Ends) -> bool:
        """Whether no record waits below the ends; what ends a transaction has an offset and is none."""
        with Reader(self._kafka, "modelbus.ingestor") as reader:
            for source in sources:
                places, spans = self._places(source), reader.spans(source.topic)
                for partition, end in ends[source.topic].items():
                    start = max(places.get(partition, 0), spans[partition][0])
                    if any(reader.read(source.topic, partition, start, end)):
                        return False
        return True

    def _places(self, source: Source) -> dict[int, int]:
        try:
            table = self._tables.open(source.kind, source.owner)
        except NoTable:
            return {}
        return offsets_of(source, table)

    async def _survey(self, erasure: Erasure, entity: str, sources: list[Source], ends: Ends) -> dict[str, Any]:
        async with self._pool.acquire() as connection:
            pins = [pin for stream in erasure.streams for pin in await Store(connection).pins(stream)]
        found = await asyncio.to_thread(self._look, entity, sources, ends, pins)
        async with self._pool.acquire() as connection:
            await Store(connection).found_to_erase(erasure.receipt, found)
        return found

    def _look(self, entity: str, sources: list[Source], ends: Ends, pins: list[Pin]) -> dict[str, Any]:
        """What is there to be taken, what only time will take, and what cannot be made again then."""
        held = {
            each.topic: Held.of_newest(self._tables, each.kind, each.owner, rows_of(entity, ends[each.topic]))
            for each in sources
        }
        places = {origin for _, origin in self._letterbox.find(lambda letter: is_of(letter, entity, ends))}
        remaining = expiries(self._kafka, last_records(held, places), datetime.now(UTC))
        affected = [pin for pin in pins if pin.saw(held[DATA.of(pin.stream)])]
        return {
            "tables": {
                each.table: {"rows": held[each.topic].rows.num_rows, "files": held[each.topic].files}
                for each in sources
                if held[each.topic].files
            },
            "letters": len(places),
            "remaining": [{"topic": topic, "expires_at": at and at.isoformat()} for topic, at in remaining.items()],
            "affected": [{"model": pin.model, "version": pin.version} for pin in affected],
        }

    def _rewrite(self, source: Source, wanted: pc.Expression) -> DeltaTable:
        """The table without these rows, at the version from which on it is kept.

        Raises:
            DeltaError, OSError: S3 failed, or somebody else was always the next to write.
        """
        for attempt in range(_ATTEMPTS):
            table = self._tables.open(source.kind, source.owner)
            try:
                erase(table, wanted)
                supersede(table, {METADATA: committed(source, table).model_dump_json()})
            except CommitFailedError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return table
        raise AssertionError("unreachable")


def committed(source: Source, table: DeltaTable) -> DatasetCommitted:
    """As which the version after this one is announced: it adds no rows."""
    return DatasetCommitted(
        stream=source.spec.stream,
        kind=source.kind,
        table=source.table,
        version=table.version() + 1,
        offsets=offsets_of(source, table),
        rows_added=0,
        rows_total=table.count(),
        time_min=None,
        time_max=None,
    )


def purge(tables: Tables, source: Source, version: int, wanted: pc.Expression) -> None:
    """Remove what only versions before this one need: log entries, and data files that are in no version any more.

    Whoever began to write before and is late must still find the next version taken, so young log entries are emptied
    and not removed; and of young data files, any may belong to a commit under way, but for those with such rows: who
    writes these began before.
    """
    kind, owner = source.kind, source.owner
    stored = tables.stored(kind, owner)
    used = tables.files(kind, owner, version) | tables.files(kind, owner, None)
    old = stored[f"_delta_log/{version:020d}.json"] - _UNDER_WAY
    entries, idle = idle_entries(stored, (), version), idle_files(stored, used, old)
    young = idle_files(stored, used | idle, datetime.max.replace(tzinfo=UTC))
    idle |= {name for name in young if _holds(tables.bytes_of(kind, owner, name), wanted)}
    recent = {name for name in entries if name.endswith(".json") and stored[name] >= old}
    tables.remove(kind, owner, sorted(entries - recent))  # first: on a checkpoint, emptied entries would make a version
    tables.empty(kind, owner, sorted(recent))
    tables.remove(kind, owner, sorted(idle))


def _holds(file: bytes, wanted: pc.Expression) -> bool:
    return bool(pq.read_table(io.BytesIO(file), columns=["offset"], filters=wanted).num_rows)


def is_of(letter: Message, entity: str, ends: Ends) -> bool:
    """Whether a letter, or the mark of one, is about a record of the entity below the ends."""
    if (origin := origin_of(headers_of(letter))) is None:
        return False
    topic, partition, offset = origin
    return offset < ends.get(topic, {}).get(partition, 0) and names(entity, letter.key(), letter.value())
