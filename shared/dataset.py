"""What a run may learn from: the rows of a cut with their labels, the same in training, at the gates and reproduced.

Nothing of the future gets in: rows and labels are those that the pinned table versions hold below the cut's offsets,
and labels those that were known at the cut's time.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.events.parts import Cut, Offsets, Span
from schemas.specs import ModelSpec, StreamSpec
from shared.matrix import COLUMN_PREFIX, Matrix, matrix_of

_ORDER = [("time", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
_PLACE = ["id", "entity", "time", "partition", "offset"]


class Reader(Protocol):
    """Tables pinned by version (shared/tables.py)."""

    def read(
        self,
        kind: Literal["data", "labels", "predictions"],
        owner: str,
        version: int,
        columns: Sequence[str],
        filters: Sequence[tuple[str, str, Any]],
    ) -> pa.Table: ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """n labelled rows in canonical order (time, partition, offset).

    `matrix` is the stream matrix, float64 (n, features of the stream); `labels` (n,) are 0/1 (bool), the index into
    the label's values (category), or the value (float); `times` (n,) are datetime64[us], UTC.
    """

    matrix: Matrix
    labels: NDArray[np.float64]
    times: NDArray[np.datetime64]
    ids: list[str]
    entities: list[str]

    def __len__(self) -> int:
        return len(self.times)

    def digest(self, features: Iterable[str]) -> str:
        """Of all that a run can see of the rows: equal digests, equal rows in equal order.

        `features` name the columns of the matrix; in which order a stream declares them makes no difference.
        """
        hashed = hashlib.sha256()
        columns = dict(zip(features, self.matrix.T, strict=True))
        for name in sorted(columns):
            hashed.update(f"{name}\0".encode())
            hashed.update(
                np.where(np.isnan(columns[name]), np.nan, columns[name]).tobytes()
            )  # missing in one bit pattern
        for column in (self.labels, self.times):
            hashed.update(np.ascontiguousarray(column).tobytes())
        for names in (self.ids, self.entities):
            hashed.update("".join(f"{len(name)}:{name}" for name in names).encode())
        return f"sha256:{hashed.hexdigest()}"

    def part(self, after: datetime | None, until: datetime) -> "Dataset":
        """The rows with after < time ≤ until; `after` None: from the first."""
        start = 0 if after is None else int(np.searchsorted(self.times, instant(after), side="right"))
        return self._rows(start, int(np.searchsorted(self.times, instant(until), side="right")))

    def last(self, rows: int, until: datetime) -> "Dataset":
        """The last so many rows with time ≤ until."""
        end = int(np.searchsorted(self.times, instant(until), side="right"))
        return self._rows(max(0, end - rows), end)

    def _rows(self, start: int, end: int) -> "Dataset":
        return Dataset(
            matrix=self.matrix[start:end],
            labels=self.labels[start:end],
            times=self.times[start:end],
            ids=self.ids[start:end],
            entities=self.entities[start:end],
        )


def classes_of(stream_spec: StreamSpec) -> tuple[str, ...]:
    """What the columns of a version's probabilities stand for, by label code; empty for a number.

    >>> from schemas.specs import Label
    >>> declared = {"stream": "s", "entity": "e", "features": {"x": {"type": "float"}}}
    >>> classes_of(StreamSpec(**declared, label=Label(type="bool", delay=timedelta(hours=1))))
    ('false', 'true')
    """
    label = stream_spec.label
    return {"bool": ("false", "true"), "category": label.values, "float": ()}[label.type]


def read_dataset(
    tables: Reader, spec: ModelSpec, stream_spec: StreamSpec, cut: Cut, quarantined: Sequence[Span] = ()
) -> Dataset:
    """The labelled rows of (cut.time − training.window, cut.time] outside quarantined spans.

    Of rows with one id the first in canonical order counts, as of labels with one id.
    """
    start = cut.time - spec.training.window
    within = [("time", ">", start), ("time", "<=", cut.time)]
    columns = _PLACE + [COLUMN_PREFIX + name for name in stream_spec.features]
    data = _below(tables.read("data", stream_spec.stream, cut.data_version, columns, within), cut.data_offsets)
    data = _first_of_each_id(data.filter((pc.field("time") > start) & (pc.field("time") <= cut.time)))
    data = data.filter(_outside(data["time"], quarantined))
    known, columns = [("time", "<=", cut.time)], [*_PLACE, "label"]
    labels = _below(tables.read("labels", stream_spec.stream, cut.labels_version, columns, known), cut.labels_offsets)
    labels = _first_of_each_id(labels.filter(pc.field("time") <= cut.time))
    place = pc.index_in(data["id"], value_set=labels["id"])
    labelled = pc.is_valid(place)
    data, answers = data.filter(labelled), labels["label"].take(place.filter(labelled))
    return Dataset(
        matrix=matrix_of(stream_spec, data),
        labels=_codes(stream_spec, answers),
        times=_instants(data["time"]),
        ids=data["id"].to_pylist(),
        entities=data["entity"].to_pylist(),
    )


def time_split(times: NDArray[np.datetime64], shares: Sequence[float]) -> tuple[datetime, ...]:
    """The last time of each part when rising `times` are cut by `shares` (of the whole, summing to 1).

    Rows of one time stay together, in the earlier part.

    >>> times = np.arange("2013-01-01", "2013-01-11", dtype="datetime64[D]").astype("datetime64[us]")
    >>> [until.day for until in time_split(times, (0.6, 0.2, 0.2))]
    [6, 8, 10]

    Raises:
        ValueError: no times, or shares that do not sum to 1.
    """
    if not len(times) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"expected times and shares that sum to 1, got {len(times)} times and shares {list(shares)}")
    ends = np.rint(np.cumsum(shares) * len(times)).astype(int).clip(1, len(times))
    return tuple(_datetime(times[end - 1]) for end in ends)


def instant(time: datetime) -> np.datetime64:
    """An aware time as numpy's, in UTC.

    >>> from datetime import UTC
    >>> instant(datetime(2013, 1, 1, tzinfo=UTC))
    np.datetime64('2013-01-01T00:00:00.000000')
    """
    return np.datetime64((time - _EPOCH) // timedelta(microseconds=1), "us")


def _datetime(time: np.datetime64) -> datetime:
    return _EPOCH + timedelta(microseconds=int(time.astype("datetime64[us]").astype(np.int64)))


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _below(table: pa.Table, offsets: Offsets) -> pa.Table:
    """The records before the cut's offsets; one of a partition that the cut does not name lies behind it."""
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    kept = np.zeros(table.num_rows, dtype=bool)
    for number, until in offsets.items():
        kept |= (partition == number) & (offset < until)
    return table.filter(pa.array(kept))


def _first_of_each_id(table: pa.Table) -> pa.Table:
    """Canonical order, repeats dropped."""
    ordered = table.sort_by(_ORDER)
    rows = pa.array(np.arange(ordered.num_rows))
    firsts = pa.table({"id": ordered["id"], "row": rows}).group_by("id").aggregate([("row", "min")])["row_min"]
    return ordered.take(firsts.combine_chunks().sort() if len(firsts) else firsts)


def _outside(times: pa.ChunkedArray, spans: Sequence[Span]) -> pa.Array:
    moments = _instants(times)
    kept = np.ones(len(moments), dtype=bool)
    for span in spans:
        kept &= (moments < instant(span.start)) | (moments >= instant(span.end))
    return pa.array(kept)


def _instants(times: pa.ChunkedArray) -> NDArray[np.datetime64]:
    counted: NDArray[np.int64] = times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return counted.astype("datetime64[us]")


def _codes(stream_spec: StreamSpec, answers: pa.ChunkedArray) -> NDArray[np.float64]:
    if stream_spec.label.type == "category":
        answers = pc.index_in(answers, value_set=pa.array(stream_spec.label.values))
    codes: NDArray[np.float64] = answers.cast(pa.float64()).to_numpy()
    return codes
