"""`modelbus backfill`: history from Parquet files, as if it happened now; the ingestor judges it like any record."""

import math
from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from confluent_kafka import KafkaException, Producer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import counted, settings
from schemas.topics import DATA, LABELS, MAX_RECORD_BYTES
from shared.errors import Refusal
from shared.settings import KafkaSettings

BARRIER_ROWS: Final = 10_000  # after so many rows the broker has acknowledged all of them
_BATCH_ROWS: Final = 10_000
_SORT_ROWS: Final = 2_000_000  # a file of no more rows is sorted here; a larger one must come sorted
_IDENTITY: Final = ("id", "entity", "time")
_FLUSH_SECONDS: Final = 60
_TIME: Final = pa.timestamp("us", "UTC")
console = Console(stderr=True)


class Row(NamedTuple):
    """One record to be sent; rows of both files are merged by time, data first."""

    time: datetime
    order: int
    topic: str
    key: str
    value: bytes


def backfill(
    stream: Annotated[str, typer.Argument(help="The stream, as it was applied.")],
    file: Annotated[Path, typer.Argument(help="Parquet: id, entity, time (with a time zone) and the features.")],
    labels: Annotated[Path | None, typer.Option(help="Parquet: id, entity, time and label.")] = None,
    start_row: Annotated[int, typer.Option(min=0, help="Leave out so many rows: where an earlier run ended.")] = 0,
) -> None:
    """Publish a stream's history from Parquet files, in time order. Sent twice, a record is trained on once."""
    if missing := [str(path) for path in (file, labels) if path is not None and not path.is_file()]:
        raise _refused(f"{', '.join(missing)}: there is no such file")
    kafka = settings(KafkaSettings)
    try:
        sources = [_Source(file, DATA.of(stream), features=True)]
        if labels is not None:
            sources.append(_Source(labels, LABELS.of(stream), features=False))
        producer = Producer(kafka.librdkafka() | _PRODUCER)
        _check_topics(producer, stream, [source.topic for source in sources])
    except (Refusal, OSError, pa.ArrowInvalid) as error:
        raise _refused(str(error)) from None
    total = sum(source.rows for source in sources)
    rows = islice(merge(*(source.read(order) for order, source in enumerate(sources))), start_row, None)
    _publish(producer, rows, start_row, total)
    console.print(
        f"{counted(max(total - start_row, 0), 'record')} sent; what breaks the contract: modelbus dead-letters list"
    )


_PRODUCER: Final = {
    "client.id": "modelbus-backfill",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java's producers do, so that labels meet their events
    "message.max.bytes": MAX_RECORD_BYTES,
    "linger.ms": 20,
    "compression.type": "lz4",
}


class _Source:
    """One Parquet file and the topic it goes to; read in batches, so memory does not grow with the file.

    Raises:
        Refusal: a column is missing or of a type that no record can carry, or the file is neither sorted nor small.
    """

    def __init__(self, path: Path, topic: str, *, features: bool) -> None:
        self.topic = topic
        self._path = path
        self._features = features
        self._file = pq.ParquetFile(path)
        self.rows: int = self._file.metadata.num_rows
        _check_columns(path, self._file.schema_arrow, features=features)
        self._sorted = self._is_sorted()
        if not self._sorted and self.rows > _SORT_ROWS:
            raise Refusal(f"{path}: {self.rows} rows are not sorted by time; sort the file first")

    def read(self, order: int) -> Iterator[Row]:
        """Rows in time order."""
        for batch in self._batches():
            times = batch["time"].cast(_TIME, safe=False)  # finer than a datetime can tell
            for record in batch.set_column(batch.schema.get_field_index("time"), "time", times).to_pylist():
                yield self._row(record, order)

    def _row(self, record: dict[str, Any], order: int) -> Row:
        said = {name: record[name] for name in _IDENTITY}
        if self._features:
            said["features"] = {
                name: self._plain(record["id"], name, value) for name, value in record.items() if name not in _IDENTITY
            }
        else:
            said["label"] = self._plain(record["id"], "label", record["label"])
        return Row(record["time"], order, self.topic, record["entity"], msgspec.json.encode(said))

    def _plain(self, record: str, name: str, value: Any) -> Any:
        """NaN is how many tools write a missing number; an infinite one cannot be said in JSON."""
        if not isinstance(value, float) or math.isfinite(value):
            return value
        if math.isnan(value):
            return None
        raise Refusal(f"{self._path}: {record}: {name}: expected a finite number, got {value}")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._sorted:
            yield from self._file.iter_batches(_BATCH_ROWS)
            return
        table = self._file.read()
        table = table.take(pc.sort_indices(table, [("time", "ascending")]))
        yield from table.to_batches(_BATCH_ROWS)

    def _is_sorted(self) -> bool:
        """Looks at the times alone; also makes sure that nothing is missing from a record's identity."""
        last, row = None, 0
        for batch in self._file.iter_batches(_BATCH_ROWS, columns=list(_IDENTITY)):
            for name in _IDENTITY:
                if batch[name].null_count:
                    where = row + pc.index(batch[name].is_null(), True).as_py()
                    raise Refusal(f"{self._path}: row {where}: {name}: expected a value, got null")
            row += batch.num_rows
            times = batch["time"].cast(pa.int64())
            rising = pc.all(pc.less_equal(times[:-1], times[1:])).as_py() is not False
            if not rising or (last is not None and times[0].as_py() < last):
                return False
            last = times[-1].as_py() if len(times) else last
        return True


def _check_columns(path: Path, schema: pa.Schema, *, features: bool) -> None:
    wanted = _IDENTITY if features else (*_IDENTITY, "label")
    if missing := [name for name in wanted if name not in schema.names]:
        raise Refusal(f"{path}: expected the columns {', '.join(wanted)}, {', '.join(missing)} missing")
    for name in ("id", "entity"):
        if not _is_text(schema.field(name).type):
            raise Refusal(f"{path}: {name}: expected strings, got {schema.field(name).type}")
    time = schema.field("time").type
    if not pa.types.is_timestamp(time) or time.tz is None:
        raise Refusal(f"{path}: time: expected timestamps with a time zone, got {time}")
    for field in schema:
        if field.name not in _IDENTITY and not _is_plain(field.type):
            raise Refusal(f"{path}: {field.name}: expected numbers, strings or bools, got {field.type}")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return _is_text(kind) or any(test(kind) for test in tests)


def _check_topics(producer: Producer, stream: str, topics: list[str]) -> None:
    try:
        there = producer.list_topics(timeout=10).topics
    except KafkaException as error:
        raise Refusal(f"Kafka does not answer: {error.args[0].str()}") from None
    if missing := [topic for topic in topics if topic not in there]:
        raise Refusal(f"stream {stream!r} is not applied: there is no topic {', '.join(missing)}; see `modelbus apply`")


def _publish(producer: Producer, rows: Iterator[Row], start_row: int, total: int) -> None:
    """Send and wait, barrier by barrier; whatever ends it, says from which row to go on."""
    sent = start_row
    columns = (TextColumn("backfill"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("backfill", total=total, completed=min(start_row, total))
            while chunk := list(islice(rows, BARRIER_ROWS)):
                _send(producer, chunk)
                sent += len(chunk)
                progress.update(bar, completed=sent)
    except (KafkaException, Refusal, KeyboardInterrupt) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        raise _refused(f"{why}: {sent} rows were acknowledged; go on with --start-row {sent}") from None


def _send(producer: Producer, rows: list[Row]) -> None:
    failures: list[str] = []

    def delivered(error: Any, _: object) -> None:
        if error is not None:
            failures.append(error.str())

    for row in rows:
        while True:
            try:
                producer.produce(row.topic, key=row.key, value=row.value, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(1)
    unsent = producer.flush(_FLUSH_SECONDS)
    if unsent or failures:
        raise Refusal(
            f"{unsent + len(failures)} records were not acknowledged ({failures[0] if failures else 'no answer'})"
        )


def _refused(message: str) -> typer.Exit:
    console.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)
