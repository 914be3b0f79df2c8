"""Delta tables on S3: every accepted record of a stream or model, one row each; pinned versions stay readable."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
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
_LARGE_BYTES: Final = 64 * 1024 * 1024  # of a file that is left alone: what a compaction writes is bounded by it
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

        Raises:
            NoTable: it does not exist, or not at this version.
            deltalake.exceptions.DeltaError, OSError: S3 failed.
        """
        try:
            return DeltaTable(self.uri(kind, owner), version=version, storage_options=self.storage_options)
        except TableNotFoundError as error:
            raise NoTable(f"{table_name(kind, owner)}: there is no such table") from error
        except DeltaError as error:
            if version is not None and version > self.open(kind, owner).version():
                raise NoTable(f"{table_name(kind, owner)}: there is no version {version} yet") from error
            raise

    def ensure(self, kind: Kind, owner: str, schema: pa.Schema) -> DeltaTable:
        """The newest version of a table, created empty (version 0) when it is not there; racing creators are fine."""
        try:
            return self.open(kind, owner)
        except NoTable:
            DeltaTable.create(
                self.uri(kind, owner),
                schema,
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
        filters: ds.Expression | Sequence[tuple[str, str, Any]] | None = None,
    ) -> pa.Table:
        """Rows of a pinned version, in no promised order; repeated records are still repeated.

        `filters` is a pyarrow expression or a conjunction of (column, operator, value), pushed down to the files.
        Columns that the version does not have, such as features declared later, are left out.

        Raises:
            NoTable: there is no such table or version.
            deltalake.exceptions.DeltaError, OSError: S3 failed.
        """
        table = self.open(kind, owner, version)
        there = [field.name for field in table.schema().fields]
        wanted = there if columns is None else [name for name in columns if name in there]
        return table.to_pyarrow_table(columns=wanted, filters=filters)


def append(table: DeltaTable, rows: pa.Table, offsets: Mapping[str, int], metadata: Mapping[str, str]) -> None:
    """Make exactly the next version of the snapshot that `table` holds; `table` then holds that version.

    `offsets` are app transactions: topic/partition → next offset. Delta takes a transaction that goes back as well as
    one that goes on, so the caller compares them first; and nothing is retried here, so that what was compared is
    what the commit is made from. Features declared since become new columns.

    Raises:
        deltalake.exceptions.CommitFailedError: somebody made that version first (or S3 failed: reload and compare).
        deltalake.exceptions.DeltaError, OSError: S3 failed, before or after the commit: reload and compare.
    """
    transactions = [Transaction(app_id, offset) for app_id, offset in offsets.items()]
    write_deltalake(
        table,
        rows,
        mode="append",
        schema_mode="merge",
        commit_properties=CommitProperties(
            custom_metadata=dict(metadata), max_commit_retries=0, app_transactions=transactions
        ),
        post_commithook_properties=_HOOKS,
    )


def compact(table: DeltaTable) -> None:
    """Rewrite small files as large ones: one more version with the same rows; older versions stay readable.

    Commits that others make meanwhile are no hindrance, `table` then holds them too.

    Raises:
        deltalake.exceptions.DeltaError, OSError: S3 failed, or somebody else compacted.
    """
    table.optimize.compact(target_size=_LARGE_BYTES, post_commithook_properties=_HOOKS)


def small_files(table: DeltaTable) -> int:
    """How many files of a snapshot compaction would rewrite."""
    return int(pc.sum(pc.less(pa.table(table.get_add_actions())["size_bytes"], _LARGE_BYTES)).as_py() or 0)


def commits_since(table: DeltaTable, version: int) -> list[tuple[int, dict[str, Any]]]:
    """(version, commit info with its metadata) of every commit after `version`, oldest first."""
    missing = table.version() - version
    commits = table.history(missing) if missing > 0 else []
    return [(commit["version"], commit) for commit in reversed(commits)]
