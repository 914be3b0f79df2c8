"""Delta tables on S3: every accepted record of a stream or model, one row each; pinned versions stay readable."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError, TableNotFoundError
from minio.deleteobjects import DeleteObject

from schemas.events.ingestor import Kind
from schemas.specs import BoolFeature, CategoryFeature, Feature, Label, StreamSpec
from shared.errors import Fault
from shared.matrix import COLUMN_PREFIX
from shared.objects import client_of
from shared.settings import S3Settings

_TIME: Final = pa.timestamp("us", tz="UTC")
_PLACE: Final = [("partition", pa.int32()), ("offset", pa.int64())]
_PREDICTION: Final = pa.schema(
    [
        ("id", pa.string()),
        ("event_id", pa.string()),
        ("entity", pa.string()),
        ("model", pa.string()),
        ("version", pa.int32()),
        ("arm", pa.string()),
        ("revision", pa.int64()),
        ("input_partition", pa.int32()),
        ("input_offset", pa.int64()),
        ("score", pa.float64()),
        ("label", pa.string()),
        ("probabilities", pa.string()),
        ("time", _TIME),
        ("flags", pa.list_(pa.string())),
        *_PLACE,
    ]
)
_CONFIGURATION: Final[dict[str, str | None]] = {
    "delta.checkpointInterval": "50",  # a reader replays at most so many commits
    "delta.enableExpiredLogCleanup": "false",  # models pin versions: only the ingestor knows what may go
    "delta.deletedFileRetentionDuration": "interval 1 second",  # it needs no tombstones: checkpoints only grow by them
}
_EPOCH: Final = pa.field("epoch", pa.int32())  # the first column: statistics are kept of the first ones only
# a compaction rewrites no more, but for one commit: Parquet of numbers in a row is small
_EPOCH_BYTES: Final = 32 * 1024 * 1024
_EPOCH_ROWS: Final = 1_000_000
_BATCH_ROWS: Final = 32_768  # handed to the writer at a time; they are read by row groups
_LARGE_BYTES, _LARGE_ROWS = _EPOCH_BYTES // 5, _EPOCH_ROWS // 5  # files as large on average are not worth rewriting
_UNIQUE: Final = frozenset({"id", "event_id"})  # of each row its own: a dictionary would be but a copy
_ERASED: Final = "modelbus.erased"  # of a table: no version before this one is kept, and it is read in their place
_TAKEN: Final = b'{"commitInfo":{"operation":"ERASED"}}\n'
_HOOKS: Final = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


class NoTable(Fault):
    """The table, or this version of it, is not there (yet)."""


def schema_of(kind: Kind, spec: StreamSpec) -> pa.Schema:
    """Columns of a table of this stream, in order; `time` is event time in UTC, microseconds.

    Place columns say where the record stands in its topic; a feature `x` is the column `f_x`: a number, a string
    (as it was sent, seen or unseen) or a bool; null is missing. Predictions keep `label` and `probabilities` as text.
    """
    if kind == "predictions":
        return _PREDICTION
    identity = [("id", pa.string()), ("entity", pa.string()), ("time", _TIME), *_PLACE]
    if kind == "labels":
        return pa.schema([*identity, ("label", _type_of(spec.label))])
    features = [(COLUMN_PREFIX + name, _type_of(feature)) for name, feature in spec.features.items()]
    return pa.schema([*identity, ("flags", pa.list_(pa.string())), *features])


def _type_of(declared: Feature | Label) -> pa.DataType:
    if isinstance(declared, Label):
        return {"bool": pa.bool_(), "float": pa.float64(), "category": pa.string()}[declared.type]
    if isinstance(declared, CategoryFeature):
        return pa.string()
    return pa.bool_() if isinstance(declared, BoolFeature) else pa.float64()


def table_name(kind: Kind, owner: str) -> str:
    """How events name a table.

    >>> table_name("data", "flights")
    'data/flights'
    """
    return f"{kind}/{owner}"


class Tables:
    """The tables in one bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self._bucket = settings.bucket
        self._client = client_of(settings)
        scheme = "https" if settings.secure else "http"
        self.storage_options: dict[str, str] = {
            "aws_access_key_id": settings.access_key,
            "aws_secret_access_key": settings.secret_key.get_secret_value(),
            "aws_endpoint_url": f"{scheme}://{settings.endpoint}",
            "aws_region": settings.region,
            "aws_allow_http": str(not settings.secure).lower(),
            "aws_conditional_put": "etag",  # a version is created by If-None-Match: of two writers one wins
            "connect_timeout": "5s",
            "timeout": "20s",
            "max_retries": "3",  # callers reload, compare and try again themselves
            "retry_timeout": "20s",
        }

    def uri(self, kind: Kind, owner: str) -> str:
        """Where the table lies."""
        return f"s3://{self._bucket}/{self._root(kind, owner)}".removesuffix("/")

    def _root(self, kind: Kind, owner: str) -> str:
        return f"tables/{table_name(kind, owner)}/"

    def open(self, kind: Kind, owner: str, version: int | None = None) -> DeltaTable:
        """The table at `version`, or at its newest.

        In the place of a version that yielded to an erasure stands the one that the erasure made: tables only grow, so
        below the offsets of the older one it holds the same rows, less what was erased.

        Raises:
            NoTable: it does not exist, or not at this version.
            deltalake.exceptions.DeltaError, OSError: S3 failed.
        """
        try:
            return DeltaTable(self.uri(kind, owner), version=version, storage_options=self.storage_options)
        except DeltaError as error:
            if version is None:
                if isinstance(error, TableNotFoundError):
                    raise NoTable(f"{table_name(kind, owner)}: there is no such table") from error
                raise
            newest = self.open(kind, owner)
            if version < (since := erased_before(newest)):
                return self.open(kind, owner, since)
            if why := self._lacks(kind, owner, version, newest.version()):
                raise NoTable(f"{table_name(kind, owner)}: {why}") from error
            raise

    def _lacks(self, kind: Kind, owner: str, version: int, newest: int) -> str | None:
        """Why a version that does not open cannot be there; None when it should be."""
        if version > newest:
            return f"there is no version {version} yet"
        kept = f"_delta_log/{version:020d}.json" in self.stored(kind, owner)
        return None if kept else f"version {version} is no longer kept"

    def ensure(self, kind: Kind, owner: str, schema: pa.Schema) -> DeltaTable:
        """The newest version of a table, created empty (version 0) when it is not there; racing creators are fine."""
        try:
            return self.open(kind, owner)
        except NoTable:
            DeltaTable.create(
                self.uri(kind, owner),
                pa.schema([_EPOCH, *schema]),
                mode="ignore",
                configuration=_CONFIGURATION,
                storage_options=self.storage_options,
            )
            return self.open(kind, owner)

    def stored(self, kind: Kind, owner: str) -> dict[str, datetime]:
        """Every object of a table, by its name below the table's place, and when it was written."""
        root = self._root(kind, owner)
        found = self._client.list_objects(bucket_name=self._bucket, prefix=root, recursive=True)
        return {each.object_name.removeprefix(root): each.last_modified for each in found}

    def files(self, kind: Kind, owner: str, version: int | None) -> set[str]:
        """Names of the data files of a version (None: the newest), as `stored` names them."""
        return {uri.removeprefix(f"{self.uri(kind, owner)}/") for uri in self.open(kind, owner, version).file_uris()}

    def bytes_of(self, kind: Kind, owner: str, name: str) -> bytes:
        """One object of a table."""
        response = self._client.get_object(bucket_name=self._bucket, object_name=self._root(kind, owner) + name)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    def empty(self, kind: Kind, owner: str, entries: Iterable[str]) -> None:
        """Leave nothing in log entries but that their versions are taken."""
        for name in entries:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=self._root(kind, owner) + name,
                data=io.BytesIO(_TAKEN),
                length=len(_TAKEN),
            )

    def remove(self, kind: Kind, owner: str, names: Iterable[str]) -> None:
        """Remove objects of a table.

        Raises:
            Fault: at least one could not be removed.
        """
        doomed = (DeleteObject(self._root(kind, owner) + name) for name in names)
        if errors := list(self._client.remove_objects(bucket_name=self._bucket, delete_object_list=doomed)):
            raise Fault(f"{table_name(kind, owner)}: {len(errors)} objects were not removed: {errors[0].message}")

    def read(
        self,
        kind: Kind,
        owner: str,
        version: int | None,
        columns: Sequence[str] | None = None,
        filters: pc.Expression | Sequence[tuple[str, str, Any]] | None = None,
    ) -> pa.Table:
        """Rows of a pinned version, in no promised order; repeated records are still repeated.

        `filters` is a pyarrow expression or a conjunction of (column, operator, value), pushed down to the files.
        Columns that the version does not have, such as features declared later, are left out.

        Raises:
            NoTable: there is no such table or version.
            deltalake.exceptions.DeltaError, OSError: S3 failed.
        """
        table = self.open(kind, owner, version)
        there = [field.name for field in table.schema().fields if field.name != _EPOCH.name]
        wanted = there if columns is None else [name for name in columns if name in there]
        return table.to_pyarrow_table(columns=wanted, filters=filters)


@dataclass(frozen=True)
class Epoch:
    """The newest rows of a table: those that share a number. They are rewritten as one file while that is small."""

    number: int
    files: int
    bytes: int
    rows: int = 0

    @classmethod
    def of(cls, table: DeltaTable) -> "Epoch":
        """Of a snapshot."""
        files = pa.table(table.get_add_actions(flatten=True))
        if f"max.{_EPOCH.name}" not in files.column_names:
            return cls(0, 0, 0)
        numbers = files[f"max.{_EPOCH.name}"]
        newest = pc.max(numbers).as_py() or 0
        mine = files.filter(pc.equal(numbers, newest))
        size, rows = (pc.sum(mine[name]).as_py() or 0 for name in ("size_bytes", "num_records"))
        return cls(newest, mine.num_rows, size, rows)

    @property
    def closed(self) -> bool:
        """Whether it is as large as it is to become, in files that are large already: it is never rewritten again.

        >>> rewritten, large_commits, small_ones = Epoch(1, 1, 33 << 20), Epoch(1, 2, 24 << 20), Epoch(1, 9, 24 << 20)
        >>> rewritten.closed, large_commits.closed, small_ones.closed
        (True, True, False)
        """
        by_bytes = self.bytes >= _EPOCH_BYTES // 2 and self.bytes >= self.files * _LARGE_BYTES
        return by_bytes or (self.rows >= _EPOCH_ROWS // 2 and self.rows >= self.files * _LARGE_ROWS)

    def next(self) -> int:
        """The number of rows to be added."""
        return self.number + self.closed

    def due(self, files: int) -> bool:
        """Whether it has come to more than so many files, or is large enough to be rewritten for the last time."""
        large = self.bytes >= _EPOCH_BYTES or self.rows >= _EPOCH_ROWS
        return self.files > 1 and not self.closed and (self.files > files or large)


def append(table: DeltaTable, rows: pa.Table, offsets: Mapping[str, int], metadata: Mapping[str, str]) -> None:
    """Make exactly the next version of the snapshot that `table` holds; `table` then holds that version.

    `offsets` are app transactions: topic/partition → next offset. Delta takes a transaction that goes back as well as
    one that goes on, so the caller compares them first; and nothing is retried here, so that what was compared is
    what the commit is made from. Features declared since become new columns.

    Raises:
        deltalake.exceptions.CommitFailedError: somebody made that version first (or S3 failed: reload and compare).
        deltalake.exceptions.DeltaError, OSError: S3 failed, before or after the commit: reload and compare.
    """
    numbers = pa.repeat(pa.scalar(Epoch.of(table).next(), _EPOCH.type), rows.num_rows)
    transactions = [Transaction(app_id, offset) for app_id, offset in offsets.items()]
    _commit(
        table,
        rows.add_column(0, _EPOCH, numbers),
        CommitProperties(custom_metadata=dict(metadata), max_commit_retries=0, app_transactions=transactions),
    )


def compact(table: DeltaTable) -> None:
    """Rewrite the newest epoch as one file: one more version with the same rows; older versions stay readable.

    As an append, it makes exactly the next version of the snapshot, or fails. Delta's own compaction does not: two of
    them at once, as by a process that was frozen, both succeed, and every row is there twice (deltalake 1.6.6).

    Raises:
        deltalake.exceptions.DeltaError, OSError: S3 failed, or somebody else made that version.
    """
    _rewrite(table, Epoch.of(table).number, pc.scalar(True))


def erase(table: DeltaTable, doomed: pc.Expression) -> None:
    """Rewrite the epochs that hold rows of which `doomed` is true, without them: one more version for each.

    As an append, it makes exactly the next version of the snapshot, or fails. Older versions still hold the rows:
    `supersede` them, and remove their files.

    Raises:
        deltalake.exceptions.CommitFailedError: somebody else made a version; those before it are made.
        deltalake.exceptions.DeltaError, OSError: S3 failed.
    """
    held = table.to_pyarrow_dataset().to_table(columns=[_EPOCH.name], filter=doomed)
    for epoch in pc.unique(held[_EPOCH.name]).to_pylist():
        _rewrite(table, epoch, ~doomed)


def supersede(table: DeltaTable, metadata: Mapping[str, str]) -> int:
    """Make one more version, from which on the table is kept; returns its number. `table` then holds it.

    It, and no version before it, can be opened once what only those need has been removed. Any writer that began
    before fails, as its snapshot is not the newest.

    Raises:
        deltalake.exceptions.CommitFailedError: somebody else made that version.
        deltalake.exceptions.DeltaError, OSError: S3 failed.
    """
    version = table.version() + 1
    table.alter.set_table_properties(
        {_ERASED: str(version)},
        raise_if_not_exists=False,
        commit_properties=CommitProperties(custom_metadata=dict(metadata), max_commit_retries=0),
    )
    table.create_checkpoint()
    return version


def erased_before(table: DeltaTable) -> int:
    """The first version that is kept after an erasure; 0 when there was none."""
    return int((table.metadata().configuration or {}).get(_ERASED) or 0)


def _rewrite(table: DeltaTable, epoch: int, kept: pc.Expression) -> None:
    rows = table.to_pyarrow_dataset().scanner(
        filter=(pc.field(_EPOCH.name) == epoch) & kept,
        batch_size=_BATCH_ROWS,
        batch_readahead=1,
        use_threads=False,
    )
    _commit(table, rows.to_reader(), CommitProperties(max_commit_retries=0), replaced=f"{_EPOCH.name} = {epoch}")


def _commit(
    table: DeltaTable,
    rows: pa.Table | pa.RecordBatchReader,
    properties: CommitProperties,
    *,
    replaced: str | None = None,
) -> None:
    """Add rows, in the place of those of which the predicate `replaced` holds."""
    said: dict[str, Any] = {
        "schema_mode": "merge",
        "commit_properties": properties,
        "post_commithook_properties": _HOOKS,
        "writer_properties": _written(rows.schema),
    }
    if replaced is None:
        write_deltalake(table, rows, mode="append", **said)
    else:
        write_deltalake(table, rows, mode="overwrite", predicate=replaced, **said)


def _written(schema: pa.Schema) -> WriterProperties:
    """Dictionaries for text that comes again: of numbers they cost a third of the time, and zstd makes up for most.

    Statistics by which rows are found: nobody looks for those with a feature in some range.
    """
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        column_properties={
            field.name: ColumnProperties(
                dictionary_enabled=pa.types.is_string(field.type) and field.name not in _UNIQUE,
                statistics_enabled="NONE" if field.name.startswith(COLUMN_PREFIX) else None,
            )
            for field in schema
        },
    )


def commits_since(table: DeltaTable, version: int) -> list[tuple[int, dict[str, Any]]]:
    """(version, commit info with its metadata) of every commit after `version`, oldest first."""
    missing = table.version() - version
    commits = table.history(missing) if missing > 0 else []
    return [(commit["version"], commit) for commit in reversed(commits)]
