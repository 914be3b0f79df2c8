"""From the tensors of a request to the events of a stream: one a row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.specs import BoolFeature, FloatFeature, StreamSpec
from services.deployer.gateway.errors import Invalid, TooLarge
from services.deployer.gateway.protocol import Asked, Parameters, Tensor
from services.deployer.gateway.tensors import NUMBERS, Datatype, Value
from shared.records import ENCODER

MAX_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Event:
    """A data record to be published; `value` is its JSON."""

    id: str
    entity: str
    value: bytes


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The columns of a request: features of the stream, and the entities if a tensor gives them."""

    count: int
    features: Mapping[str, Sequence[Value]]
    entities: Sequence[Value] | None


def rows_of(asked: Asked, spec: StreamSpec) -> Rows:
    """The tensors by what they mean to the stream: its features, and its entity unless a feature has that name.

    Raises:
        Invalid: a tensor is unknown, repeated, or not of its feature's type or of the others' shape.
        TooLarge: too many rows.
    """
    columns: dict[str, Sequence[Value]] = {}
    count = asked.inputs[0].shape[0]
    for index, tensor in enumerate(asked.inputs):
        try:
            _check(tensor, spec, count, columns)
        except Invalid as error:
            raise Invalid(f"inputs[{index}] {tensor.name!r}: {error}") from None
        columns[tensor.name] = tensor.values
    if not 1 <= count <= MAX_ROWS:
        raise (TooLarge if count else Invalid)(f"shape: expected 1 to {MAX_ROWS} rows, got {count}")
    features = {name: values for name, values in columns.items() if name in spec.features}
    entities = None if spec.entity in spec.features else columns.get(spec.entity)
    return Rows(count=count, features=features, entities=entities)


def _check(tensor: Tensor, spec: StreamSpec, count: int, columns: Mapping[str, Any]) -> None:
    if tensor.name not in {*spec.features, spec.entity}:
        raise Invalid(f"expected a feature of stream {spec.stream!r}, {sorted(spec.features)}, or {spec.entity!r}")
    if tensor.name in columns:
        raise Invalid("expected once, got again")
    if tensor.shape not in ([count], [count, 1]):
        raise Invalid(f"shape: expected [{count}] or [{count}, 1] as the first, got {tensor.shape}")
    if tensor.datatype not in (expected := _expected(tensor.name, spec)):
        raise Invalid(f"datatype: expected {' or '.join(expected)}, got {tensor.datatype}")
    if any(value in (float("inf"), float("-inf")) for value in tensor.values):
        raise Invalid("data: expected finite numbers, or NaN for missing ones")


def _expected(name: str, spec: StreamSpec) -> tuple[Datatype, ...]:
    """The datatypes that the values of a feature, or of the entity, may have."""
    match spec.features.get(name):
        case FloatFeature():
            return NUMBERS
        case BoolFeature():
            return ("BOOL",)
        case _:
            return ("BYTES",)


def events_of(
    rows: Rows, parameters: Parameters, spec: StreamSpec, now: datetime, new_id: Callable[[], str]
) -> list[Event]:
    """One event a row; `parameters` give entity, and may give time and id, one for all or a list with one a row.

    What the values must be is left to the stream's decoder.

    Raises:
        Invalid: no entity, two of them, or not as many as there are rows.
    """
    times = _per_row(parameters, "time", rows.count) or [now.isoformat()] * rows.count
    ids = _per_row(parameters, "id", rows.count) or [new_id() for _ in range(rows.count)]
    if rows.count > 1 and isinstance(parameters.get("id"), str):
        raise Invalid(f"parameters.id: expected a list of {rows.count} strings, one a row, got one for all")
    return [
        _event(rows, row, event_id, entity, time)
        for row, (event_id, entity, time) in enumerate(zip(ids, _entities(rows, parameters, spec), times, strict=True))
    ]


def _entities(rows: Rows, parameters: Parameters, spec: StreamSpec) -> Sequence[Any]:
    given = _per_row(parameters, "entity", rows.count)
    if (given is None) == (rows.entities is None):
        raise Invalid(
            f"entity: expected parameters.entity or a BYTES tensor {spec.entity!r}: a string for all rows or one a row"
        )
    return given or rows.entities or ()


def _per_row(parameters: Parameters, name: str, count: int) -> list[str] | None:
    given = parameters.get(name)
    if given is None:
        return None
    each = given if isinstance(given, list) else [given] * count
    if len(each) != count or not all(isinstance(value, str) for value in each):
        raise Invalid(f"parameters.{name}: expected a string, or a list of {count} strings, one a row")
    return each


def _event(rows: Rows, row: int, event_id: str, entity: Any, time: str) -> Event:
    features = {name: values[row] for name, values in rows.features.items()}
    value = {"id": event_id, "entity": entity, "time": time, "features": features}
    return Event(id=event_id, entity=entity, value=ENCODER.encode(value))
