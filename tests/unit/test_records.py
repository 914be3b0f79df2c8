"""The one decoder of the data plane: what it takes, flags and refuses."""

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events.parts import Signature, SignatureFeature
from schemas.records import PredictionRecord
from schemas.specs import Label, StreamSpec
from shared.matrix import Projection
from shared.records import ENCODER, MAX_EVENT_BYTES, UNREADABLE, LabelDecoder, Prediction, StreamDecoder

SPEC = StreamSpec.model_validate(
    {
        "stream": "flights",
        "entity": "tailnum",
        "features": {
            "distance": {"type": "float", "min": 0, "max": 5000},
            "delay": {"type": "float", "max": 100, "on_range": "reject"},
            "carrier": {"type": "category", "values": ["UA", "AA"]},
            "origin": {"type": "category", "values": ["EWR"], "unseen": "reject", "required": True},
            "rain": {"type": "bool"},
        },
        "label": {"type": "bool", "delay": "8h"},
    }
)
GOOD = {"distance": 1400, "delay": 3.5, "carrier": "AA", "origin": "EWR", "rain": True}


def record(features: dict[str, Any] | None = None, **fields: Any) -> bytes:
    said = {"id": "1", "entity": "N1", "time": "2013-01-01T10:17:00Z", "features": GOOD | (features or {})}
    return json.dumps(said | fields).encode()


def test_a_good_record_becomes_a_row_in_the_declared_order_with_categories_as_codes() -> None:
    batch = StreamDecoder(SPEC).decode([record()])

    assert batch.matrix.tolist() == [[1400.0, 3.5, 1.0, 0.0, 1.0]]
    assert (batch.flags, batch.refused) == ({}, [])


def test_missing_values_are_nan_and_not_flagged() -> None:
    batch = StreamDecoder(SPEC).decode([record({"distance": None, "carrier": None, "rain": None})])

    assert np.isnan(batch.matrix[0, [0, 2, 4]]).all()
    assert batch.flags == {}


def test_out_of_range_and_unseen_values_are_flagged_where_the_spec_allows_them() -> None:
    batch = StreamDecoder(SPEC).decode([record(), record({"distance": -1, "carrier": "ZZ"})])

    assert batch.flags == {1: ("out_of_range:distance", "unseen:carrier")}
    assert batch.matrix[1, 0] == -1
    assert np.isnan(batch.matrix[1, 2])


@pytest.mark.parametrize(
    ("value", "reason", "error"),
    [
        (b"{", "poison", "truncated"),
        (b"\xff\xfe", "poison", "malformed"),
        (None, "poison", "no value"),
        (record({"distance": math.nan}), "poison", "NaN is no JSON: leave the feature out, or say null"),
        (record({"distance": "far"}), "rejected", "$.features.distance"),
        (record({"gate": 1}), "rejected", "`gate` - at `$.features`; expected some of distance, delay, carrier, "),
        (record({"delay": 1000}), "rejected", "features.delay: expected a number between None and 100.0, got 1000.0"),
        (record({"origin": "LAX"}), "rejected", "features.origin: expected one of 1 declared values, got 'LAX'"),
        (record({"origin": None}), "rejected", "$.features.origin"),
        (record(time="2013-01-01T10:17:00"), "rejected", "timezone"),
        (
            record({"distance": 1e39}),
            "rejected",
            "features.distance: expected a number that float32 can hold, got 1e+39",
        ),
        (record(comment="here")[:-1] + b',"deep":' + b"[" * 1100 + b"]" * 1100 + b"}", "poison", "recursion"),
        (record(id=""), "rejected", "$.id"),
        (record(entity="x" * 257), "rejected", "$.entity"),
        (record(comment="x" * MAX_EVENT_BYTES), "rejected", f"at most {MAX_EVENT_BYTES} bytes"),
    ],
)
def test_a_record_that_breaks_the_contract_is_refused_with_its_reason_and_the_others_go_on(
    value: bytes | None, reason: str, error: str
) -> None:
    batch = StreamDecoder(SPEC).decode([record(id="a"), value, record({"distance": 9000}, id="b")])

    assert [each.id for each in batch.records] == ["a", "b"]
    assert batch.positions == [0, 2]
    assert batch.flags == {1: ("out_of_range:distance",)}
    (refused,) = batch.refused
    assert (refused.position, refused.reason) == (1, reason)
    assert error in refused.error


@given(st.lists(st.binary(max_size=200) | st.just(record()), max_size=20))
def test_every_record_is_either_accepted_or_refused(values: list[bytes]) -> None:
    batch = StreamDecoder(SPEC).decode(values)

    assert sorted(batch.positions + [each.position for each in batch.refused]) == list(range(len(values)))
    assert len(batch.records) == len(batch.matrix) == len(batch.positions)


def test_a_label_of_another_type_is_refused() -> None:
    decoder = LabelDecoder(SPEC)

    assert decoder.decode(b'{"id":"1","entity":"N1","time":"2013-01-01T10:17:00Z","label":true}').label is True
    with pytest.raises(ValueError, match=r"\$\.label"):
        decoder.decode(b'{"id":"1","entity":"N1","time":"2013-01-01T10:17:00Z","label":1}')


def test_a_label_that_no_model_could_hold_is_refused() -> None:
    decoder = LabelDecoder(SPEC.model_copy(update={"label": Label(type="float", delay=timedelta(hours=1))}))
    text = '{"id":"1","entity":"N1","time":"2013-01-01T10:17:00Z","label":%s}'

    assert decoder.decode((text % "1e38").encode()).label == 1e38
    with pytest.raises(ValueError, match=r"\$\.label"):
        decoder.decode((text % "1e200").encode())
    with pytest.raises(ValueError, match="bytes"):
        decoder.decode((text % ("1" + " " * MAX_EVENT_BYTES)).encode())
    with pytest.raises(UNREADABLE):
        decoder.decode((text % ('1,"x":' + "[" * 1100 + "]" * 1100)).encode())


def test_a_feature_that_the_stream_gave_up_is_missing_to_the_versions_that_knew_it() -> None:
    signature = Signature(
        features=(
            SignatureFeature(name="gone", type="category", values=("a",)),
            SignatureFeature(name="distance", type="float"),
        )
    )

    inputs = Projection(signature, SPEC)(StreamDecoder(SPEC).decode([record()]).matrix)

    np.testing.assert_array_equal(inputs, np.array([[np.nan, 1400]], dtype=np.float32))


def test_what_scorers_write_is_what_is_published() -> None:
    (accepted,) = StreamDecoder(SPEC).decode([record()]).records
    written = Prediction(
        id="1@m:1", event_id="1", entity="N1", model="m", version=1, arm="champion", revision=1, partition=0, offset=7,
        score=0.5, label=True, time=accepted.time, flags=("unseen:carrier",),
    )  # fmt: skip

    read = PredictionRecord.model_validate_json(ENCODER.encode(written))

    assert read.model_dump() == {name: getattr(written, name) for name in Prediction.__struct_fields__}


def test_a_version_reads_categories_by_its_own_values_where_the_declared_ones_moved() -> None:
    signature = Signature(
        features=(
            SignatureFeature(name="carrier", type="category", values=("AA",)),
            SignatureFeature(name="distance", type="float"),
        )
    )
    matrix = StreamDecoder(SPEC).decode([record({"carrier": each}) for each in ("UA", "AA", None)]).matrix

    inputs = Projection(signature, SPEC)(matrix)

    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, np.array([[np.nan, 1400], [0, 1400], [np.nan, 1400]], dtype=np.float32))


@given(st.lists(st.sampled_from(["good", "poison", "wrong", "none", "odd", "huge", "rejected"]), max_size=12))
def test_whatever_stands_beside_it_each_record_has_its_place_or_its_refusal(kinds: list[str]) -> None:
    values = {
        "poison": b"{",
        "wrong": record({"distance": "far"}),
        "none": None,
        "odd": record(time="9999-12-31T23:59:59Z"),
        "huge": record(comment="x" * MAX_EVENT_BYTES),
        "rejected": record({"delay": 1000}),
    }
    sent = [values.get(kind, record(id=f"e{place}")) for place, kind in enumerate(kinds)]

    batch = StreamDecoder(SPEC).decode(sent)

    good = [place for place, kind in enumerate(kinds) if kind == "good"]
    assert batch.positions == good
    assert [each.id for each in batch.records] == [f"e{place}" for place in good]
    assert len(batch.matrix) == len(good)
    assert [each.position for each in batch.refused] == [place for place in range(len(kinds)) if place not in good]
    alone = [StreamDecoder(SPEC).decode([value]).refused for value in sent]
    assert [(each.reason, each.error) for each in batch.refused] == [
        (why.reason, why.error) for refused in alone for why in refused
    ]
