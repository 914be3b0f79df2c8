"""From requests to the events of a stream, and what keeps them from it."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.specs import BoolFeature
from services.deployer.gateway.errors import Invalid, TooLarge
from services.deployer.gateway.events import MAX_ROWS, Event, events_of, rows_of
from services.deployer.gateway.protocol import read
from shared.records import StreamDecoder
from tests.gateway_world import asking
from tests.scoring_world import stream_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = stream_spec("s")
SPEC = SPEC.model_copy(update={"features": {**SPEC.features, "hot": BoolFeature(type="bool")}})


def events(body: dict[str, Any]) -> list[Event]:
    asked = read(json.dumps(body).encode(), None)
    numbers = itertools.count()
    return events_of(rows_of(asked, SPEC), asked.request.parameters, SPEC, NOW, lambda: f"fresh-{next(numbers)}")


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


def asking_with(*tensors: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {"parameters": parameters, "inputs": list(tensors)}


def test_each_row_is_an_event_that_the_stream_accepts() -> None:
    made = events(asking(3, "m"))

    batch = StreamDecoder(SPEC).decode([each.value for each in made])
    assert batch.refused == []
    assert [(each.id, each.entity, each.time) for each in batch.records] == [(f"fresh-{n}", "m", NOW) for n in range(3)]
    assert [each.features.heat for each in batch.records] == [-2.0, -1.5, -1.0]
    assert [each.features.colour for each in batch.records] == ["red", "green", "red"]
    assert {each.features.weight for each in batch.records} == {None}


def test_entities_ids_and_times_may_be_given_one_a_row() -> None:
    heat, time = tensor("heat", "FP32", [1, 2]), "2013-01-01T00:00:00+01:00"
    by_list = events(asking_with(heat, entity=["a", "b"], id=["x", "y"], time=[time, time]))
    by_tensor = events(asking_with(heat, tensor("machine", "BYTES", ["a", "b"]), id=["x", "y"], time=time))

    assert [(each.id, each.entity) for each in by_list] == [("x", "a"), ("y", "b")]
    assert by_list == by_tensor
    assert json.loads(by_list[0].value)["time"] == time


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (asking_with(tensor("heat", "FP64", [1])), "entity: expected parameters.entity or a BYTES tensor 'machine'"),
        (asking_with(tensor("heat", "FP64", [1]), tensor("machine", "BYTES", ["a"]), entity="a"), "entity: expected"),
        (asking_with(tensor("heat", "FP64", [1, 2]), entity=["a"]), "parameters.entity: expected .* 2 strings"),
        (asking_with(tensor("heat", "FP64", [1]), entity=7), "parameters.entity: expected a string"),
        (asking_with(tensor("heat", "FP64", [1, 2]), entity="a", id="x"), "parameters.id: expected a list of 2"),
        (asking_with(tensor("size", "FP64", [1]), entity="a"), r"inputs\[0\] 'size': expected a feature of stream 's'"),
        (asking_with(tensor("heat", "BYTES", ["1"]), entity="a"), "datatype: expected UINT8 or"),
        (asking_with(tensor("colour", "FP64", [1]), entity="a"), "datatype: expected BYTES, got FP64"),
        (asking_with(tensor("hot", "UINT8", [1]), entity="a"), "datatype: expected BOOL, got UINT8"),
        (asking_with(*[tensor("heat", "FP64", [1])] * 2, entity="a"), r"inputs\[1\] 'heat': expected once"),
        (asking_with(tensor("heat", "FP64", [1]), tensor("hot", "BOOL", [True] * 2), entity="a"), r"\[1\] or \[1, 1\]"),
        (asking_with(tensor("heat", "FP64", []), entity="a"), "expected 1 to 1000 rows, got 0"),
    ],
)  # fmt: skip
def test_what_is_no_row_of_the_stream_is_refused_with_what_and_where(body: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        events(body)


def test_one_request_has_a_bounded_number_of_rows() -> None:
    assert len(events(asking(MAX_ROWS))) == MAX_ROWS
    with pytest.raises(TooLarge, match="got 1001"):
        events(asking(MAX_ROWS + 1))
