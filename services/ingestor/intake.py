"""One table: its waiting records, and the snapshot that the next commit is made from."""

import logging
from collections.abc import Collection

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from schemas.events.ingestor import DatasetCommitted
from services.ingestor import metrics
from services.ingestor.announcements import METADATA
from services.ingestor.domain.buffer import Buffer, astray
from services.ingestor.domain.patience import Patience
from services.ingestor.domain.rows import Reading, reader_of
from services.ingestor.domain.sources import Source
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from shared.tables import Tables, append, compact, schema_of

log = logging.getLogger(__name__)


class Intake:
    """Commits are made from the very snapshot whose transactions equal the offsets that the rows start at."""

    def __init__(self, source: Source, *, tables: Tables, parking: Parking, settings: Settings) -> None:
        self.buffer = Buffer()
        self.committing, self.announcing = Patience(), Patience()
        self.held: bool | None = None  # whether its partitions are paused; None: some may be
        self.announced = False  # what an earlier life committed may be unsaid
        self._tables = tables
        self._parking = parking
        self._settings = settings
        self._table: DeltaTable | None = None
        self.learn(source)

    def learn(self, source: Source) -> None:
        """Read by this declaration from now on."""
        self.source = source
        self._schema = schema_of(source.kind, source.spec)
        self._read = reader_of(source.kind, source.spec, self._schema)

    def due(self, now: float) -> bool:
        limits = self._settings
        return self.committing.ready(now) and self.buffer.due(
            now, rows=limits.commit_rows, bytes=limits.commit_bytes, seconds=limits.commit_seconds
        )

    def full(self) -> bool:
        """Whether it must take no more until a commit succeeds."""
        return self.committing.failing and self.buffer.oldest is not None

    def table(self) -> DeltaTable:
        """The snapshot; loaded anew after any doubt about it."""
        if self._table is None:
            self._table = self._tables.ensure(self.source.kind, self.source.owner, self._schema)
        return self._table

    def place(self, partitions: Collection[int]) -> dict[int, int]:
        """Take partitions over (again): their records come from where the table's transactions end."""
        self._table = self.held = None
        places = {partition: self._committed(self.table(), partition) for partition in partitions}
        for partition, offset in places.items():
            self.drop(partition)
            self.buffer.place(partition, offset)
        return places

    def drop(self, partition: int) -> None:
        metrics.DROPPED.labels(self.source.table).inc(self.buffer.drop(partition))

    def commit(self) -> set[int]:
        """Make what waits the table's next version.

        Returns:
            Partitions that somebody else has moved on: then nothing was committed, and they must be placed again.

        Raises:
            Exception: it failed, perhaps after the commit; the next attempt loads the table and compares first.
        """
        table, self._table = self.table(), None
        self.announced = False  # also when it fails: that commit, or one that failed before, may have been made
        if moved := astray(starts := self.buffer.starts(), {p: self._committed(table, p) for p in starts}):
            return moved
        reading = self._read(self.buffer.taken)
        self._parking.park(self.source.topic, ((self.buffer.taken[why.position], why) for why in reading.refused))
        offsets = {self.source.app_id(partition): offset for partition, offset in self.buffer.nexts().items()}
        event = self._event(table, reading)
        append(table, reading.rows, offsets, {METADATA: event.model_dump_json()})
        self._table = table
        self.buffer.committed()
        metrics.ROWS.labels(self.source.table).inc(reading.rows.num_rows)
        metrics.UNKEYED.labels(self.source.table).inc(reading.unkeyed)
        return set()

    def tidy(self) -> None:
        """Keep the number of files small, so that commits and reads stay fast; a failure costs nothing."""
        table, self._table = self.table(), None
        if len(table.file_uris()) > self._settings.compact_files:
            try:
                compact(table)
            except (DeltaError, OSError) as error:
                log.warning("%s: not compacted: %r", self.source.table, error)
                return
        self._table = table

    def _committed(self, table: DeltaTable, partition: int) -> int:
        return table.transaction_version(self.source.app_id(partition)) or 0

    def _event(self, table: DeltaTable, reading: Reading) -> DatasetCommitted:
        source = self.source
        before = {partition: self._committed(table, partition) for partition in range(source.spec.partitions)}
        return DatasetCommitted(
            stream=source.spec.stream,
            kind=source.kind,
            table=source.table,
            version=table.version() + 1,
            offsets=before | self.buffer.nexts(),
            rows_added=reading.rows.num_rows,
            rows_total=table.count() + reading.rows.num_rows,
            time_min=reading.time_min,
            time_max=reading.time_max,
            rejected=len(reading.refused),
            profile=reading.profile,
        )
