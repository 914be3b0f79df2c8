"""From records as they stood in a topic to rows of its table; what is refused is named, never dropped in silence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.events.ingestor import FeatureProfile, Kind
from schemas.specs import StreamSpec
from services.ingestor.domain import profile
from shared.matrix import COLUMN_PREFIX
from shared.records import (
    PREDICTIONS,
    UNREADABLE,
    LabelDecoder,
    LabelRecord,
    Prediction,
    Record,
    RefusedRecord,
    StreamDecoder,
)


class Taken(NamedTuple):
    """A record as it stood in its topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What taken records come to: rows of the table, the refused, and what the rows look like.

    `refused[i].position` is where the record stood among the taken. `unkeyed` counts rows whose key is not their
    entity: they are accepted, but nothing keeps them in order or beside their labels.
    """

    rows: pa.Table
    refused: list[RefusedRecord]
    unkeyed: int
    time_min: datetime | None
    time_max: datetime | None
    profile: dict[str, FeatureProfile]


class Reader(Protocol):
    """Reads the records of one topic; refusals are in the result, nothing is raised."""

    def __call__(self, taken: Sequence[Taken]) -> Reading: ...


def reader_of(kind: Kind, spec: StreamSpec, schema: pa.Schema) -> Reader:
    """The reader of a topic; `schema` is that of its table."""
    match kind:
        case "data":
            return DataReader(spec, schema)
        case "labels":
            return LabelReader(spec, schema)
        case "predictions":
            return PredictionReader(schema)


class DataReader:
    """Rows of a data table."""

    def __init__(self, spec: StreamSpec, schema: pa.Schema) -> None:
        self._spec = spec
        self._schema = schema
        self._decoder = StreamDecoder(spec)

    def __call__(self, taken: Sequence[Taken]) -> Reading:
        batch = self._decoder.decode([record.value for record in taken])
        kept = [taken[position] for position in batch.positions]
        features = [msgspec.structs.astuple(record.features) for record in batch.records]
        columns = _identity(batch.records, kept) | {
            "flags": [batch.flags.get(row, ()) for row in range(len(kept))],
            **{COLUMN_PREFIX + name: [row[i] for row in features] for i, name in enumerate(self._spec.features)},
        }
        rows = pa.table(columns, schema=self._schema)
        return _reading(rows, kept, batch.refused, profile.of_batch(self._spec, batch))


class LabelReader:
    """Rows of a label table."""

    def __init__(self, spec: StreamSpec, schema: pa.Schema) -> None:
        self._schema = schema
        self._numeric = spec.label.type == "float"
        self._decode = LabelDecoder(spec).decode

    def __call__(self, taken: Sequence[Taken]) -> Reading:
        records, kept, refused = _decoded(self._decode, taken)
        labels = [record.label for record in records]
        described = (
            profile.of_numbers(np.array(labels, dtype=np.float64)) if self._numeric else profile.of_values(labels)
        )
        columns = _identity(records, kept) | {"label": labels}
        return _reading(pa.table(columns, schema=self._schema), kept, refused, {"label": described})


class PredictionReader:
    """Rows of a prediction table."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def __call__(self, taken: Sequence[Taken]) -> Reading:
        records, kept, refused = _decoded(_prediction, taken)
        columns = _identity(records, kept) | {
            "input_partition": [record.partition for record in records],
            "input_offset": [record.offset for record in records],
            "label": [_text(record.label) for record in records],
            "probabilities": [_json(record.probabilities) for record in records],
        }
        for name in ("event_id", "model", "version", "arm", "revision", "score", "flags"):
            columns[name] = [getattr(record, name) for record in records]
        described = {
            "score": profile.of_numbers(np.array(columns["score"], dtype=np.float64)),
            "label": profile.of_values(columns["label"]),
        }
        return _reading(pa.table(columns, schema=self._schema), kept, refused, described)


def _decoded(
    decode: Callable[[bytes | None], Any], taken: Sequence[Taken]
) -> tuple[list[Any], list[Taken], list[RefusedRecord]]:
    records, kept, refused = [], [], []
    for position, record in enumerate(taken):
        try:
            records.append(decode(record.value))
            kept.append(record)
        except msgspec.ValidationError as error:
            refused.append(RefusedRecord(position=position, reason="rejected", error=str(error)))
        except UNREADABLE as error:
            refused.append(RefusedRecord(position=position, reason="poison", error=str(error)))
    return records, kept, refused


def _prediction(value: bytes | None) -> Prediction:
    if value is None:
        raise msgspec.DecodeError("expected a JSON object, got no value")
    return PREDICTIONS.decode(value)


def _identity(records: Sequence[Record | LabelRecord | Prediction], kept: Sequence[Taken]) -> dict[str, list[Any]]:
    return {
        "id": [record.id for record in records],
        "entity": [record.entity for record in records],
        "time": [record.time for record in records],
        "partition": [place.partition for place in kept],
        "offset": [place.offset for place in kept],
    }


def _reading(
    rows: pa.Table, kept: Sequence[Taken], refused: list[RefusedRecord], described: dict[str, FeatureProfile]
) -> Reading:
    entities = rows["entity"].to_pylist()
    span = pc.min_max(rows["time"]).as_py()
    return Reading(
        rows=rows,
        refused=refused,
        unkeyed=sum(place.key != entity.encode() for place, entity in zip(kept, entities, strict=True)),
        time_min=span["min"],
        time_max=span["max"],
        profile=described if kept else {},
    )


def _text(label: bool | str | None) -> str | None:
    return str(label).lower() if isinstance(label, bool) else label


def _json(probabilities: dict[str, float] | None) -> str | None:
    return None if probabilities is None else msgspec.json.encode(probabilities).decode()
