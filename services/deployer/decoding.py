"""A stream's records as columns: the usual ones read by plain.c, the others by the decoder that all services share."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from schemas.specs import StreamSpec
from shared.matrix import Matrix
from shared.plain import ENTITY, ID, TIME, Plain, PlainReader
from shared.records import ENCODER, RefusedRecord, StreamDecoder

Item = TypeVar("Item")


@dataclass(kw_only=True)
class Columns:
    """A decoded batch of n accepted records, otherwise as `shared.records.Batch`; times are texts, in UTC."""

    positions: Sequence[int]
    ids: list[str]
    keys: list[bytes]  # the entities, as a record's key should be
    entities: list[str]
    times: list[bytes]
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
        entities = [record.entity for record in batch.records]
        return Columns(
            positions=batch.positions,
            ids=[record.id for record in batch.records],
            keys=list(map(str.encode, entities)),
            entities=entities,
            times=ENCODER.encode_lines(times).replace(b'"', b"").splitlines(),
            matrix=batch.matrix,
            flags=batch.flags,
            refused=batch.refused,
        )


def _in_utc(time: datetime) -> datetime:
    """As it was sent where UTC has another year than its readers take, at either end of the calendar."""
    utc = time.astimezone(UTC)
    return utc if 1 < utc.year < 9999 else time


def _usual(plain: Plain) -> Columns:
    ids, entities = plain.lines(ID), plain.lines(ENTITY)
    return Columns(
        positions=range(len(plain.usual)),
        ids=ids.decode().splitlines(),
        keys=entities.splitlines(),
        entities=entities.decode().splitlines(),
        times=plain.lines(TIME).splitlines(),
        matrix=plain.matrix.T,
        flags={},
        refused=[],
    )


def _with_others(columns: Columns, others: Columns) -> Columns:
    """Columns of all records, in which those of the others are filled in, and what is refused is left out."""
    columns.matrix[others.positions] = others.matrix
    for row, place in enumerate(others.positions):
        columns.ids[place], columns.times[place] = others.ids[row], others.times[row]
        columns.keys[place], columns.entities[place] = others.keys[row], others.entities[row]
    flags = {others.positions[row]: words for row, words in others.flags.items()}
    if not others.refused:
        return replace(columns, flags=flags)
    places = [each.position for each in others.refused]
    return Columns(
        positions=without(range(len(columns.ids)), places),
        ids=without(columns.ids, places),
        keys=without(columns.keys, places),
        entities=without(columns.entities, places),
        times=without(columns.times, places),
        matrix=np.delete(columns.matrix, places, axis=0),
        flags={place - bisect_left(places, place): words for place, words in flags.items()},
        refused=others.refused,
    )


def without(items: Iterable[Item], places: Sequence[int]) -> list[Item]:
    """All but those at these places, ascending: where they are few, far faster than to pick the others.

    >>> without("abcd", [1, 2])
    ['a', 'd']
    """
    kept = list(items)
    for place in reversed(places):
        del kept[place]
    return kept
