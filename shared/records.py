"""Records of the data plane on the hot path: msgspec twins of schemas/records.py, and one decoder for all readers.

The ingestor parks what the decoder refuses; scorers skip the very same records. So every record of a data topic has
either a place in the table and its predictions, or a dead letter; only in the moment in which a stream's declaration
changes may the two go by different ones.
"""

import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature, FloatFeature, StreamSpec

MAX_EVENT_BYTES = 256 * 1024
MAX_ID_LETTERS = 256
MAX_NUMBER = float(np.finfo(np.float32).max)  # models read float32: what is larger would be infinite to them
_YEARS = frozenset(range(2, 9999))  # the first and last of the calendar cannot be told in every time zone
_MOST_NAMES = 20  # of features, in a message
_NO_NUMBER = re.compile(rb":\s*-?(NaN|Infinity|nan|inf)\b")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # a thousand brackets are no JSON of ours
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LETTERS)]
Time = Annotated[datetime, Meta(tz=True)]
Matrix = NDArray[np.float64]


class Record(Struct, gc=False):
    """A decoded data event; `features` is a struct made for its stream."""

    id: Id
    entity: Id
    time: Time
    features: Any


class LabelRecord(Struct, gc=False):
    """A decoded label."""

    id: Id
    entity: Id
    time: Time
    label: Any


class Prediction(Struct, gc=False, omit_defaults=True):
    """What a scorer writes; the fields of schemas.records.PredictionRecord."""

    id: str
    event_id: str
    entity: str
    model: str
    version: int
    arm: Literal["champion", "canary", "shadow"]
    revision: int
    partition: int
    offset: int
    score: float
    label: bool | str | None
    time: Time
    probabilities: dict[str, float] | None = None
    flags: tuple[str, ...] = ()
    propensity: Annotated[float, Meta(gt=0, le=1)] | None = None


EXPLORE = "explore"  # the flag of a prediction that is to be acted on as if its label were true
ENCODER = msgspec.json.Encoder()
PREDICTIONS = msgspec.json.Decoder(Prediction)


class RefusedRecord(NamedTuple):
    """A record that breaks its stream's contract: unreadable (`poison`) or readable but wrong (`rejected`)."""

    position: int
    reason: Literal["poison", "rejected"]
    error: str


@dataclass(kw_only=True)
class Batch:
    """A decoded batch of n accepted records.

    `positions[i]` is where record i stood in the input; `matrix` is float64 of shape (n, features of the stream, in
    declared order): numbers, 0/1, or the index into the feature's values; NaN is missing or unseen.
    `flags` holds only the records that have some.
    """

    records: list[Record]
    positions: list[int]
    matrix: Matrix
    flags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    refused: list[RefusedRecord] = field(default_factory=list)


class StreamDecoder:
    """Decodes and checks the data records of one stream, a batch at a time."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_record_type(spec))
        features = list(spec.features.values())
        self._codes = [_Codes(each) if isinstance(each, CategoryFeature) else None for each in features]
        self._categories = [index for index, codes in enumerate(self._codes) if codes is not None]
        self._lows, self._highs = bounds_of(spec)
        self._pack = struct.Struct(f"{len(features)}d").pack

    def decode(self, values: Sequence[bytes | None], places: Sequence[int] | None = None) -> Batch:
        """Decode a batch; refusals are in the result, nothing is raised.

        Positions are those of the values, or `places`, ascending, one each, where the values are but some of a batch.
        """
        records, refused = self._in_runs(values)
        positions = np.delete(np.arange(len(values)), [each.position for each in refused]).tolist()
        if places is not None:
            positions = [places[each] for each in positions]
            refused = [RefusedRecord(places[position], reason, error) for position, reason, error in refused]
        return self._checked(records, positions, refused)

    def _in_runs(self, values: Sequence[bytes | None]) -> tuple[list[Record], list[RefusedRecord]]:
        """The good ones and the others: no line of Python runs for a record between two bad ones."""
        records, refused = list[Record](), list[RefusedRecord]()
        if max(map(len, filter(None, values)), default=0) > MAX_EVENT_BYTES:
            rest = iter([value if len(value or b"") <= MAX_EVENT_BYTES else None for value in values])
        else:
            rest = iter(values)
        while True:
            try:
                records.extend(map(self._decoder.decode, rest))  # type: ignore[arg-type]  # None raises TypeError
                return records, refused
            except (TypeError, msgspec.ValidationError, *UNREADABLE) as error:
                bad = len(records) + len(refused)  # those before it are there, and it is no longer among the rest
                refused.append(self._refusal(bad, values[bad], _unfit(values[bad]) or error))

    def _refusal(self, position: int, value: bytes | None, error: Exception) -> RefusedRecord:
        if isinstance(error, TypeError):
            raise error
        if isinstance(error, msgspec.ValidationError):
            return RefusedRecord(position, "rejected", self._told(error))
        return RefusedRecord(position, "poison", _named(error, value))

    def _told(self, error: msgspec.ValidationError) -> str:
        told = str(error)
        if "unknown field" not in told:
            return told
        names = list(self.spec.features)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return f"{told}; expected some of {', '.join(names[:_MOST_NAMES])}{more}"

    def _matrix(self, records: Sequence[Record]) -> Matrix:
        rows = list(map(msgspec.structs.astuple, [record.features for record in records]))
        if not self._categories:
            try:
                return np.frombuffer(b"".join(starmap(self._pack, rows))).reshape(len(rows), len(self._codes))
            except struct.error:  # a value is missing: column by column
                pass
        matrix = np.empty((len(rows), len(self._codes)))
        for index, (codes, column) in enumerate(zip(self._codes, zip(*rows, strict=True), strict=False)):
            matrix[:, index] = _numbers(column) if codes is None else array("d", map(codes.__getitem__, column))
        return matrix

    def _checked(self, records: list[Record], positions: list[int], refused: list[RefusedRecord]) -> Batch:
        """Flag or refuse what is out of range or unseen, refuse odd years; the other records keep their order."""
        batch = Batch(records=records, positions=positions, matrix=self._matrix(records), refused=refused)
        odd = (batch.matrix < self._lows) | (batch.matrix > self._highs)
        odd[:, self._categories] = np.isnan(batch.matrix[:, self._categories])
        dropped = _odd_years(records)
        if not dropped and not odd.any():
            return batch
        names = list(self.spec.features)
        for row, index in np.argwhere(odd).tolist():
            name = names[index]
            value = getattr(records[row].features, name)
            if value is None:
                continue
            flag, error, reject = _finding(self.spec.features[name], name, value)
            if reject:
                dropped.setdefault(row, error)
            else:
                batch.flags[row] = (*batch.flags.get(row, ()), flag)
        return _without(batch, dropped) if dropped else batch


class _Codes(dict[Any, float]):
    """A category's values as codes; missing and unseen are NaN."""

    def __init__(self, feature: CategoryFeature) -> None:
        super().__init__((value, float(code)) for code, value in enumerate(feature.values))

    def __missing__(self, value: Any) -> float:
        return np.nan


def _named(error: Exception, value: bytes | None) -> str:
    """What is wrong with a record that is no JSON, with the usual reason for it."""
    if isinstance(error, msgspec.DecodeError) and (found := _NO_NUMBER.search(value or b"")):
        return f"{error}; {found[1].decode()} is no JSON: leave the feature out, or say null"
    return str(error)


def _numbers(column: tuple[float | None, ...]) -> "array[float] | NDArray[np.float64]":
    """A column's values; None is NaN."""
    try:
        return array("d", column)  # type: ignore[arg-type]  # None raises TypeError
    except TypeError:
        return np.array(column, dtype=np.float64)


def bounds_of(spec: StreamSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lows and highs (features,): what is below or above needs a word; infinite where nothing does."""
    lows, highs = zip(*map(_bounds, spec.features.values()), strict=True)
    return np.array(lows), np.array(highs)


def _bounds(feature: Feature) -> tuple[float, float]:
    if not isinstance(feature, FloatFeature):
        return -np.inf, np.inf
    low, high = feature.min, feature.max
    return (
        -MAX_NUMBER if low is None else max(low, -MAX_NUMBER),
        MAX_NUMBER if high is None else min(high, MAX_NUMBER),
    )


def _unfit(value: bytes | None) -> msgspec.DecodeError | None:
    """What is wrong with a value before it is read."""
    if value is None:
        return msgspec.DecodeError("expected a JSON object, got no value")
    if len(value) > MAX_EVENT_BYTES:
        return msgspec.ValidationError(f"expected at most {MAX_EVENT_BYTES} bytes, got {len(value)}")
    return None


def _decoded(decoder: "msgspec.json.Decoder[Any]", value: bytes | None) -> Any:
    """What every record of the data plane must be, whatever it says; raises as its decoder does."""
    if unfit := _unfit(value):
        raise unfit
    record = decoder.decode(value)  # type: ignore[arg-type]  # None is unfit
    check_year(record)
    return record


def check_year(record: Any) -> None:
    """Raises msgspec.ValidationError where not every time zone can tell the record's year."""
    for error in _odd_years([record]).values():
        raise msgspec.ValidationError(error)


def _odd_years(records: Sequence[Any]) -> dict[int, str]:
    """Rows whose year not every time zone can tell, and what is wrong with each."""
    years = [record.time.year for record in records]
    if _YEARS.issuperset(years):
        return {}
    error = "time: expected a year between 2 and 9998, got {}"
    return {row: error.format(year) for row, year in enumerate(years) if year not in _YEARS}


def _finding(feature: Feature, name: str, value: Any) -> tuple[str, str, bool]:
    """Flag, error message, and whether the record is refused."""
    if isinstance(feature, FloatFeature):
        if abs(value) > MAX_NUMBER:
            return "", f"features.{name}: expected a number that float32 can hold, got {value}", True
        expected = f"between {feature.min} and {feature.max}"
        error = f"features.{name}: expected a number {expected}, got {value}"
        return f"out_of_range:{name}", error, feature.on_range == "reject"
    if isinstance(feature, CategoryFeature):
        error = f"features.{name}: expected one of {len(feature.values)} declared values, got {value!r}"
        return f"unseen:{name}", error, feature.unseen == "reject"
    raise AssertionError(f"{name}: a bool has no odd values")


def _without(batch: Batch, dropped: dict[int, str]) -> Batch:
    kept = [row for row in range(len(batch.records)) if row not in dropped]
    refused = [
        RefusedRecord(position=batch.positions[row], reason="rejected", error=error) for row, error in dropped.items()
    ]
    return Batch(
        records=[batch.records[row] for row in kept],
        positions=[batch.positions[row] for row in kept],
        matrix=batch.matrix[kept],
        flags={new: batch.flags[old] for new, old in enumerate(kept) if old in batch.flags},
        refused=sorted([*batch.refused, *refused], key=lambda each: each.position),
    )


def _record_type(spec: StreamSpec) -> type[Struct]:
    fields: list[Any] = []
    for name, feature in spec.features.items():
        plain = {FloatFeature: float, CategoryFeature: str, BoolFeature: bool}[type(feature)]
        fields.append((name, plain) if feature.required else (name, plain | None, None))
    features = msgspec.defstruct("Features", fields, forbid_unknown_fields=True, gc=False, kw_only=True)
    return msgspec.defstruct("Data", [("features", features)], bases=(Record,), gc=False, kw_only=True)


class LabelDecoder:
    """Decodes the label records of one stream.

    Raises (from `decode`):
        msgspec.ValidationError: readable, but breaks the contract.
        UNREADABLE: it is not even that.
    """

    def __init__(self, spec: StreamSpec) -> None:
        label = spec.label
        number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
        kind: Any = {"bool": bool, "float": number, "category": Literal[label.values or ("",)]}[label.type]
        record = msgspec.defstruct("Label", [("label", kind)], bases=(LabelRecord,), gc=False, kw_only=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record)

    def decode(self, value: bytes | None) -> LabelRecord:
        record: LabelRecord = _decoded(self._decoder, value)
        return record
