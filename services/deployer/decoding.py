"""A stream's records as columns: the usual ones read by plain.c, the others by the decoder that all services share."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from schemas.specs import StreamSpec
from shared.lines import Texts, texts_of
from shared.matrix import Matrix
from shared.plain import ENTITY, ID, TIME, Plain, PlainReader
from shared.records import ENCODER, RefusedRecord, StreamDecoder

Item = TypeVar("Item")


@dataclass(kw_only=True)
class Columns:
    """A decoded batch of n accepted records, otherwise as `shared.records.Batch`; times are texts, in UTC."""

    positions: Sequence[int]
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
        plain = self._plain.read(values)
        if plain is None or not plain.any:
            return self._decoded(values, range(len(values)))
        columns = _usual(plain)
        if plain.all:
            return columns
        return _with_others(columns, self._decoded(values, np.flatnonzero(~plain.usual).tolist()))

    def _decoded(self, values: Sequence[bytes | None], places: Sequence[int]) -> Columns:
        batch = self._decoder.decode([values[place] for place in places], places)
        times = [_in_utc(record.time) for record in batch.records]
        return Columns(
            positions=batch.positions,
            ids=texts_of([record.id.encode() for record in batch.records]),
            entities=texts_of([record.entity.encode() for record in batch.records]),
            times=Texts(ENCODER.encode_lines(times).replace(b'"', b"")),
            matrix=batch.matrix,
            flags=batch.flags,
            refused=batch.refused,
        )


def _in_utc(time: datetime) -> datetime:
    """As it was sent where UTC has another year than its readers take, at either end of the calendar."""
    utc = time.astimezone(UTC)
    return utc if 1 < utc.year < 9999 else time


def _usual(plain: Plain) -> Columns:
    return Columns(
        positions=range(len(plain.usual)),
        ids=Texts(plain.lines(ID)),
        entities=Texts(plain.lines(ENTITY)),
        times=Texts(plain.lines(TIME)),
        matrix=plain.matrix.T,
        flags={},
        refused=[],
    )


def _with_others(columns: Columns, others: Columns) -> Columns:
    """Columns of all records, in which those of the others are filled in, and what is refused is left out."""
    columns.matrix[others.positions] = others.matrix
    flags = {others.positions[row]: words for row, words in others.flags.items()}
    places = [each.position for each in others.refused]
    return Columns(
        positions=without(range(len(columns.matrix)), places),
        ids=_filled(columns.ids, others.positions, others.ids, places),
        entities=_filled(columns.entities, others.positions, others.entities, places),
        times=_filled(columns.times, others.positions, others.times, places),
        matrix=np.delete(columns.matrix, places, axis=0) if places else columns.matrix,
        flags={place - bisect_left(places, place): words for place, words in flags.items()},
        refused=others.refused,
    )


def _filled(texts: Texts, positions: Sequence[int], others: Texts, refused: Sequence[int]) -> Texts:
    """With the others at their positions, without what is refused."""
    given = list(texts.each())
    for position, other in zip(positions, others.each(), strict=True):
        given[position] = other
    return texts_of(without(given, refused))


def without(items: Iterable[Item], places: Sequence[int]) -> list[Item]:
    """All but those at these places, ascending: where they are few, far faster than to pick the others.

    >>> without("abcd", [1, 2])
    ['a', 'd']
    """
    kept = list(items)
    for place in reversed(places):
        del kept[place]
    return kept
