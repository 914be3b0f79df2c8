"""One table: its waiting records, and the snapshot that the next commit is made from."""

import logging
import threading
from collections.abc import Collection, Mapping

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from schemas.events.ingestor import DatasetCommitted
from services.ingestor import metrics
from services.ingestor.announcements import METADATA, offsets_of
from services.ingestor.domain.blocks import Block, ReadBlock, Refused
from services.ingestor.domain.buffer import Batch, Buffer, astray
from services.ingestor.domain.patience import Patience
from services.ingestor.domain.rows import Reading, read, read_block, reader_of
from services.ingestor.domain.sources import Source
from services.ingestor.parking import Parking
from services.ingestor.settings import Settings
from shared.tables import Epoch, Tables, append, compact, schema_of

_UNREAD_ROWS = 50_000  # a record as the client keeps it takes four times as much memory as its row
log = logging.getLogger(__name__)


class Snapshot:
    """A version of a table, with what reading anew would cost a round to the store each."""

    def __init__(self, table: DeltaTable, source: Source) -> None:
        self.table = table
        self.rows: int = table.count()
        self.offsets = offsets_of(source, table)


class Intake:
    """Commits are made from the very snapshot whose transactions equal the offsets that the rows start at.

    One thread at a time fills the buffer or learns of partitions, another commits: what is being committed has left the
    buffer, and whoever gives a partition away waits until that commit has succeeded or failed. Memory holds at most
    two commits' worth of its rows, each of up to two batches more where it is bytes that are the limit.

    Records are read as they are taken, while they are at hand; but those that come before the first commit after a
    takeover is made are read only as they are committed, where deaths are counted, as some record may end its reader.
    """

    def __init__(self, source: Source, *, tables: Tables, parking: Parking, settings: Settings) -> None:
        self.committing, self.announcing = Patience(), Patience()
        self.held: bool | None = None  # whether its partitions are paused; None: some may be
        self.ends: Mapping[int, int] = {}  # own partition → the offset after its last record in the table
        self.announced = False  # what an earlier life committed may be unsaid
        self._buffer = Buffer()
        self._leaving: Batch | None = None
        self._proven = False  # a commit was made since partitions were taken over
        self._lock = threading.RLock()  # of the snapshot and of what is leaving
        self._tables = tables
        self._parking = parking
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self.learn(source)

    def learn(self, source: Source) -> None:
        """Read by this declaration from now on."""
        with self._lock:
            self.source = source
            self._schema = schema_of(source.kind, source.spec)
            self._reader = reader_of(source.kind, source.spec, self._schema)

    def add(self, block: Block, now: float) -> int:
        """Take records in; returns how many were wanted."""
        return self._buffer.add(block, now, self._read if self._proven else None)

    def _read(self, block: Block) -> ReadBlock:
        return read_block(self._reader, block)

    def due(self, now: float) -> bool:
        """Whether there is something to commit, and it is time."""
        limits = self._settings
        return self.committing.ready(now) and (
            self._leaving is not None
            or self._buffer.due(now, rows=self._rows, bytes=limits.commit_bytes, seconds=limits.commit_seconds)
        )

    def enough(self, coming: int = 0) -> bool:
        """Whether a commit's worth waits, with so many records that are being read."""
        return self._buffer.full(rows=self._rows - coming, bytes=self._settings.commit_bytes)

    @property
    def _rows(self) -> int:
        """So many are a commit's worth."""
        most = self._settings.commit_rows
        return most if self._proven else min(most, _UNREAD_ROWS)

    def at_limit(self, coming: int = 0) -> bool:
        """Whether it must not be given more than these: a table that is held gets none, its partitions are paused."""
        return self.enough(coming) and not self.held

    def table(self) -> DeltaTable:
        """The snapshot; loaded anew after any doubt about it."""
        with self._lock:
            return self._newest().table

    def place(self, partitions: Collection[int]) -> dict[int, int]:
        """Take partitions over (again): their records come from where the table's transactions end."""
        with self._lock:
            self._snapshot = self.held = None
            self._proven = False
            places = {partition: self._newest().offsets.get(partition, 0) for partition in partitions}
            for partition, offset in places.items():
                self.drop(partition)
                self._buffer.place(partition, offset)
            self.ends = {**self.ends, **places}
            return places

    def drop(self, partition: int) -> None:
        """Give a partition away; waits for a commit that is under way."""
        with self._lock:
            self.ends = {number: end for number, end in self.ends.items() if number != partition}
            dropped = self._buffer.drop(partition)
            if self._leaving is not None:
                rest = self._leaving.without(partition)
                dropped += self._leaving.rows - rest.rows
                self._leaving = rest if rest.starts else None
            metrics.DROPPED.labels(self.source.table).inc(dropped)

    def cut(self) -> None:
        """Let what waits leave the buffer, unless an earlier batch has not been committed yet."""
        with self._lock:
            self._leaving = self._leaving or self._buffer.cut()

    def leaving(self) -> Batch | None:
        """What the next commit will be made of."""
        return self._leaving

    def isolate(self, killers: Collection[Refused]) -> None:
        """Park these unread."""
        with self._lock:
            self._leaving = self._leaving and self._leaving.isolated(killers)

    def commit(self) -> set[int]:
        """Make what is leaving the table's next version.

        Returns:
            Partitions that somebody else has moved on: then nothing was committed, and they must be placed again.

        Raises:
            Exception: it failed, perhaps after the commit; the next attempt loads the table and compares first.
        """
        with self._lock:
            if (batch := self._leaving) is None:
                return set()  # its partitions were given away meanwhile
            snapshot, self._snapshot = self._newest(), None
            self.announced = False  # also when it fails: that commit, or one that failed before, may have been made
            if moved := astray(batch.starts, snapshot.offsets):
                return moved
            reading = read(self._reader, batch.blocks)
            self._parking.park(self.source.topic, [*reading.refused, *batch.killers])
            self._append(snapshot, batch, reading)
            self._snapshot, self._leaving, self._proven = snapshot, None, True
            self.ends = {**self.ends, **batch.nexts}
        metrics.ROWS.labels(self.source.table).inc(reading.rows.num_rows)
        metrics.UNKEYED.labels(self.source.table).inc(reading.unkeyed)
        return set()

    def _append(self, snapshot: Snapshot, batch: Batch, reading: Reading) -> None:
        event = self._event(snapshot, batch, reading)
        offsets = {self.source.app_id(partition): offset for partition, offset in batch.nexts.items()}
        append(snapshot.table, reading.rows, offsets, {METADATA: event.model_dump_json()})
        snapshot.offsets |= batch.nexts
        snapshot.rows = event.rows_total

    def tidy(self) -> None:
        """Keep the number of files small, so that commits and reads stay fast; a failure costs nothing."""
        with self._lock:
            snapshot = self._newest()
            if Epoch.of(snapshot.table).due(self._settings.compact_files):
                self._snapshot = None  # somebody else's commit may have gone before
                try:
                    compact(snapshot.table)
                except (DeltaError, OSError) as error:
                    log.warning("%s: not compacted: %r", self.source.table, error)

    def _newest(self) -> Snapshot:
        if self._snapshot is None:
            table = self._tables.ensure(self.source.kind, self.source.owner, self._schema)
            self._snapshot = Snapshot(table, self.source)
        return self._snapshot

    def _event(self, snapshot: Snapshot, batch: Batch, reading: Reading) -> DatasetCommitted:
        source = self.source
        return DatasetCommitted(
            stream=source.spec.stream,
            kind=source.kind,
            table=source.table,
            version=snapshot.table.version() + 1,
            offsets={**snapshot.offsets, **batch.nexts},
            rows_added=reading.rows.num_rows,
            rows_total=snapshot.rows + reading.rows.num_rows,
            time_min=reading.time_min,
            time_max=reading.time_max,
            rejected=len(reading.refused) + len(batch.killers),
            profile=reading.profile,
        )
