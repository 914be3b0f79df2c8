"""A stream's records as columns: the usual ones read by plain.c, the others by the decoder that all services share."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from schemas.specs import StreamSpec
from shared.lines import Texts, texts_of
from shared.matrix import Matrix
from shared.plain import ENTITY, ID, TIME, Plain, PlainReader
from shared.records import ENCODER, RefusedRecord, StreamDecoder
from shared.spans import Spans


@dataclass(kw_only=True)
class Columns:
    """A decoded batch of n accepted records, otherwise as `shared.records.Batch`; times are texts, in UTC."""

    ids: Texts
    entities: Texts
    times: Texts
    matrix: Matrix
    flags: dict[int, tuple[str, ...]]
    refused: list[RefusedRecord]


class ColumnDecoder:
    """Decodes and checks the data records of one stream, a batch at a time."""

    def __init__(self, spec: StreamSpec) -> None:
        self._decoder = StreamDecoder(spec)
        self._plain = PlainReader(spec)

    def decode(self, values: Sequence[bytes | None]) -> Columns:
        """Decode a batch; refusals are in the result, nothing is raised."""
        plain = self._plain.read(Spans.of(values))
        if plain is None or not plain.any:
            return self._decoded(values, range(len(values))).columns
        columns = _usual(plain)
        if plain.all:
            return columns
        return _with_others(columns, self._decoded(values, np.flatnonzero(~plain.usual).tolist()))

    def _decoded(self, values: Sequence[bytes | None], positions: Sequence[int]) -> "_Others":
        batch = self._decoder.decode([values[position] for position in positions], positions)
        times = [_in_utc(record.time) for record in batch.records]
        columns = Columns(
            ids=texts_of([record.id.encode() for record in batch.records]),
            entities=texts_of([record.entity.encode() for record in batch.records]),
            times=Texts(ENCODER.encode_lines(times).replace(b'"', b"")),
            matrix=batch.matrix,
            flags=batch.flags,
            refused=batch.refused,
        )
        return _Others(columns, batch.positions)


class _Others(NamedTuple):
    """What the shared decoder accepted, and where each stands in the batch."""

    columns: Columns
    positions: Sequence[int]


def _in_utc(time: datetime) -> datetime:
    """As it was sent where UTC has another year than its readers take, at either end of the calendar."""
    utc = time.astimezone(UTC)
    return utc if 1 < utc.year < 9999 else time


def _usual(plain: Plain) -> Columns:
    return Columns(
        ids=Texts(plain.lines(ID)),
        entities=Texts(plain.lines(ENTITY)),
        times=Texts(plain.lines(TIME)),
        matrix=plain.matrix.T,
        flags={},
        refused=[],
    )


def _with_others(columns: Columns, others: _Others) -> Columns:
    """Columns of all accepted records: texts of the others stand among the usual ones, numbers in the gaps for them."""
    found, positions = others
    columns.matrix[positions] = found.matrix
    refused = [each.position for each in found.refused]
    rows = [position - bisect_left(refused, position) for position in positions]
    return Columns(
        ids=_among(columns.ids, found.ids, rows),
        entities=_among(columns.entities, found.entities, rows),
        times=_among(columns.times, found.times, rows),
        matrix=np.delete(columns.matrix, refused, axis=0) if refused else columns.matrix,
        flags={rows[row]: words for row, words in found.flags.items()},
        refused=found.refused,
    )


def _among(texts: Texts, others: Texts, rows: Sequence[int]) -> Texts:
    """With the others at these rows, ascending; where there are none, no text is looked at."""
    if not rows:
        return texts
    given = list(texts.each())
    for row, other in zip(rows, others.each(), strict=True):
        given.insert(row, other)
    return texts_of(given)
