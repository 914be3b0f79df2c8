"""From records as they stood in a topic to rows of its table; what is refused is named, never dropped in silence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.events.ingestor import FeatureProfile, Kind
from schemas.specs import BoolFeature, CategoryFeature, Feature, StreamSpec
from services.ingestor.domain import profile
from services.ingestor.domain.blocks import Block, ReadBlock, Refused, block_of
from shared.plain import ENTITY, ID, Plain, PlainReader
from shared.records import (
    PREDICTIONS,
    UNREADABLE,
    Batch,
    LabelDecoder,
    LabelRecord,
    Prediction,
    Record,
    RefusedRecord,
    StreamDecoder,
    check_year,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What taken records come to: rows of the table, the refused, and what the rows look like.

    `unkeyed` counts rows whose key is not their entity: they are accepted, but nothing keeps them in order or beside
    their labels.
    """

    rows: pa.Table
    refused: list[Refused]
    unkeyed: int
    time_min: datetime | None
    time_max: datetime | None
    profile: dict[str, FeatureProfile]


class Found(NamedTuple):
    """What a block holds: rows of the accepted, in order, and the refused by position."""

    table: pa.Table
    refused: list[RefusedRecord]


class RowReader(Protocol):
    """Reads the records of one topic; refusals are in the result, nothing is raised."""

    def rows(self, block: Block) -> Found: ...

    def profile(self, rows: pa.Table) -> dict[str, FeatureProfile]: ...


def reader_of(kind: Kind, spec: StreamSpec, schema: pa.Schema) -> RowReader:
    """The reader of a topic; `schema` is that of its table."""
    match kind:
        case "data":
            return DataReader(spec, schema)
        case "labels":
            return LabelReader(spec, schema)
        case "predictions":
            return PredictionReader(schema)


def read_block(reader: RowReader, block: Block) -> ReadBlock:
    """What a block comes to."""
    found = reader.rows(block)
    accepted = np.ones(len(block), np.bool_)
    accepted[[why.position for why in found.refused]] = False
    return ReadBlock(
        partitions=block.partitions,
        bytes=block.bytes,
        table=found.table,
        accepted=accepted,
        keyed=(block.keys if accepted.all() else block.keys.where(accepted)).same(
            found.table["entity"].combine_chunks()
        ),
        refused=[Refused(block.origin(why.position), why.reason, why.error) for why in found.refused],
    )


def read(reader: RowReader, blocks: Iterable[Block | ReadBlock]) -> Reading:
    """What blocks come to together; columns that some were read without, by an earlier declaration, are null there."""
    parts = [block if isinstance(block, ReadBlock) else read_block(reader, block) for block in blocks]
    empty = reader.rows(block_of([])).table
    rows = pa.concat_tables([empty, *(part.table for part in parts)], promote_options="default")
    span = pc.min_max(rows["time"]).as_py()
    return Reading(
        rows=rows,
        refused=[each for part in parts for each in part.refused],
        unkeyed=sum(int((~part.keyed).sum()) for part in parts),
        time_min=span["min"],
        time_max=span["max"],
        profile=reader.profile(rows) if rows.num_rows else {},
    )


class DataReader:
    """Rows of a data table: of the very batch that scorers would make of these records, or what is the same."""

    def __init__(self, spec: StreamSpec, schema: pa.Schema) -> None:
        self._spec = spec
        self._schema = schema
        self._decoder = StreamDecoder(spec)
        self._plain = PlainReader(spec)
        self._nothing = schema.empty_table()

    def rows(self, block: Block) -> Found:
        plain = self._plain.read(block.values)
        if plain is None or not plain.any:
            return Found(*self._decoded(block, range(len(block)))[:2])
        rows = self._table(plain, block)
        if plain.all:
            return Found(rows, [])
        others, refused, positions = self._decoded(block, np.flatnonzero(~plain.usual).tolist())
        if positions:
            order = np.argsort(np.concatenate([np.flatnonzero(plain.usual), positions]))
            rows = pa.concat_tables([rows, others]).take(pa.array(order))
        return Found(rows, refused)

    def _table(self, plain: Plain, block: Block) -> pa.Table:
        """Rows of the usual records; to leave out the others here takes a third of what a filter of the rows takes."""

        def usual(column: NDArray[Any]) -> NDArray[Any]:
            return column if plain.all else column[plain.usual]

        features = [_column(each, usual(plain.matrix[row])) for row, each in enumerate(self._spec.features.values())]
        times = usual(plain.times)
        places = [pa.array(usual(block.partitions)), pa.array(usual(block.offsets)), _flags_column({}, len(times))]
        times = pa.array(times).view(pa.timestamp("us", "UTC"))
        return pa.table([plain.text(ID), plain.text(ENTITY), times, *places, *features], schema=self._schema)

    def _decoded(self, block: Block, places: Sequence[int]) -> tuple[pa.Table, list[RefusedRecord], list[int]]:
        """Rows and refusals of the records at these places, and where the rows' records stand."""
        batch = self._decoder.decode([block.values[place] for place in places], places)
        if not batch.records:
            return self._nothing, batch.refused, []
        features = [
            _column_as_sent(feature, name, batch, batch.matrix[:, index])
            for index, (name, feature) in enumerate(self._spec.features.items())
        ]
        columns = [*_identity(batch.records, block, batch.positions), _flags_column(batch.flags, len(batch.records))]
        return pa.table([*columns, *features], schema=self._schema), batch.refused, batch.positions

    def profile(self, rows: pa.Table) -> dict[str, FeatureProfile]:
        return profile.of_features(self._spec, rows)


def _column(feature: Feature, numbers: NDArray[np.float64]) -> pa.Array:
    """A row or column of the stream matrix as the values that were sent, on its own: it may be a view; NaN is null."""
    missing = np.isnan(numbers)
    mask = missing if missing.any() else None  # with one it takes four times as long
    if isinstance(feature, BoolFeature):
        return pa.array(numbers == 1, mask=mask)
    if not isinstance(feature, CategoryFeature):
        return pa.array(numbers if numbers.base is None else numbers.copy(), mask=mask)
    codes = pa.array(np.where(missing, 0, numbers).astype(np.int32), mask=mask)
    return pa.array(feature.values, pa.string()).take(codes)


def _column_as_sent(feature: Feature, name: str, batch: Batch, numbers: NDArray[np.float64]) -> pa.Array:
    """Likewise, with the categories that were not declared."""
    column = _column(feature, numbers)
    missing = np.isnan(numbers)
    if not isinstance(feature, CategoryFeature) or not (unseen := [row for row in batch.flags if missing[row]]):
        return column
    sent = column.to_pylist()
    for row in unseen:
        sent[row] = getattr(batch.records[row].features, name)
    return pa.array(sent, pa.string())


def _flags_column(flags: Mapping[int, Sequence[str]], count: int) -> pa.Array:
    """A list per row; nearly all are empty."""
    lengths = np.zeros(count + 1, dtype=np.int32)
    for row, words in flags.items():
        lengths[row + 1] = len(words)
    words = [word for row in sorted(flags) for word in flags[row]]
    return pa.ListArray.from_arrays(pa.array(np.cumsum(lengths, dtype=np.int32)), pa.array(words, pa.string()))


class LabelReader:
    """Rows of a label table."""

    def __init__(self, spec: StreamSpec, schema: pa.Schema) -> None:
        self._schema = schema
        self._decode = LabelDecoder(spec).decode

    def rows(self, block: Block) -> Found:
        records, positions, refused = _decoded(self._decode, block)
        labels = pa.array([record.label for record in records], self._schema.field("label").type)
        return Found(pa.table([*_identity(records, block, positions), labels], schema=self._schema), refused)

    def profile(self, rows: pa.Table) -> dict[str, FeatureProfile]:
        return {"label": profile.of_column(rows["label"])}


class PredictionReader:
    """Rows of a prediction table."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def rows(self, block: Block) -> Found:
        records, positions, refused = _decoded(_prediction, block)
        parts = dict(
            zip(("id", "entity", "time", "partition", "offset"), _identity(records, block, positions), strict=True)
        )
        parts |= {
            "input_partition": [record.partition for record in records],
            "input_offset": [record.offset for record in records],
            "label": [_text(record.label) for record in records],
            "probabilities": [_json(record.probabilities) for record in records],
        }
        for name in ("event_id", "model", "version", "arm", "revision", "score", "flags"):
            parts[name] = [getattr(record, name) for record in records]
        return Found(pa.table(parts, schema=self._schema), refused)

    def profile(self, rows: pa.Table) -> dict[str, FeatureProfile]:
        return {name: profile.of_column(rows[name]) for name in ("score", "label")}


def _decoded(decode: Callable[[bytes | None], Any], block: Block) -> tuple[list[Any], list[int], list[RefusedRecord]]:
    """The accepted, their positions, and the refused."""
    records, positions, refused = [], [], []
    for position, value in enumerate(block.values):
        try:
            records.append(decode(value))
            positions.append(position)
        except msgspec.ValidationError as error:
            refused.append(RefusedRecord(position=position, reason="rejected", error=str(error)))
        except UNREADABLE as error:
            refused.append(RefusedRecord(position=position, reason="poison", error=str(error)))
    return records, positions, refused


def _prediction(value: bytes | None) -> Prediction:
    if value is None:
        raise msgspec.DecodeError("expected a JSON object, got no value")
    prediction = PREDICTIONS.decode(value)
    check_year(prediction)
    return prediction


def _identity(
    records: Sequence[Record | LabelRecord | Prediction], block: Block, positions: Sequence[int]
) -> list[Any]:
    """id, entity, time, partition, offset."""
    place = np.array(positions, dtype=np.intp)
    return [
        pa.array([record.id for record in records], pa.string()),
        pa.array([record.entity for record in records], pa.string()),
        _times(records),
        pa.array(block.partitions[place]),
        pa.array(block.offsets[place]),
    ]


def _times(records: Iterable[Record | LabelRecord | Prediction]) -> pa.Array:
    """Not of the times themselves: pyarrow asks the time zone of each, which takes four times as long."""
    return pa.array([record.time - _EPOCH for record in records], pa.duration("us")).view(pa.timestamp("us", "UTC"))


def _text(label: bool | str | None) -> str | None:
    return str(label).lower() if isinstance(label, bool) else label


def _json(probabilities: dict[str, float] | None) -> str | None:
    return None if probabilities is None else msgspec.json.encode(probabilities).decode()
