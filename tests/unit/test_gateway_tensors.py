"""Tensors and messages of the Open Inference Protocol, against Triton's own client."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from services.deployer.gateway.errors import Invalid
from services.deployer.gateway.protocol import InferenceResponse, Tensor, read, write
from services.deployer.gateway.tensors import NUMBERS, from_binary, from_json, to_binary

X = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}
REQUEST = {"inputs": [X]}


def body(**changed: Any) -> bytes:
    return json.dumps(REQUEST | changed).encode()


def given_input(name: str, values: Any, datatype: str, *, binary: bool = True) -> InferInput:
    array = np.array(values, object if datatype == "BYTES" else None)
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


@pytest.mark.parametrize("binary", [True, False])
def test_what_tritons_client_writes_is_read(binary: bool) -> None:
    inputs = [
        given_input("x", np.array([[1.5], [-2.0]], np.float32), "FP32", binary=binary),
        given_input("n", np.array([7, -7], np.int16), "INT16", binary=binary),
        given_input("s", ["ä", ""], "BYTES", binary=binary),
        given_input("b", [True, False], "BOOL", binary=binary),
    ]

    written, size = InferenceServerClient.generate_request_body(inputs, request_id="42")

    asked = read(bytes(written), None if size is None else str(size))
    assert [list(each.values) for each in asked.inputs] == [[1.5, -2.0], [7, -7], ["ä", ""], [True, False]]
    assert asked.request.id == "42"


def test_what_is_written_tritons_client_reads() -> None:
    tensors = [
        Tensor(name="score", datatype="FP64", shape=[2], values=[0.25, 0.5]),
        Tensor(name="label", datatype="BOOL", shape=[2], values=[True, False]),
        Tensor(name="prediction_id", datatype="BYTES", shape=[2], values=["a@m:1", "ä@m:1"]),
        Tensor(name="probabilities", datatype="FP64", shape=[2, 2], values=[0.1, 0.9, 0.5, 0.5]),
    ]
    inputs = [given_input("x", np.array([1.0]), "FP64")]
    chosen = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("prediction_id")]
    for outputs in (None, chosen):
        written, size = InferenceServerClient.generate_request_body(inputs, outputs=outputs)
        asked = read(bytes(written), str(size))

        answer, header = write(InferenceResponse(model_name="m", outputs=[]), tensors, asked.request)

        result = InferenceServerClient.parse_response_body(answer, header_length=header)
        assert result.as_numpy("label").tolist() == [True, False]
        assert result.as_numpy("prediction_id").tolist() == [b"a@m:1", "ä@m:1".encode()]
        assert ("data" in result.get_output("label")) == (outputs is chosen)
        assert (result.get_output("score") is None) == (outputs is chosen)


@pytest.mark.parametrize(
    ("sent", "header", "said"),
    [
        (b"", None, "body"),
        (b"[" * 5000, None, "body"),
        (b'{"inputs": []}', None, "length >= 1"),
        (body(id=7), None, r"Expected `str`, got `int` - at `\$.id`"),
        (body(inputs=[X | {"shape": [2]}]), None, r"inputs\[0\] 'x': expected 2 elements"),
        (body(inputs=[X | {"shape": [2**40, 2**40]}]), None, "expected"),
        (body(inputs=[X | {"datatype": "STRING"}]), None, "Invalid enum value"),
        (body(inputs=[X | {"data": ["a"]}]), None, r"inputs\[0\] 'x': data: Expected `float"),
        (body(inputs=[X | {"datatype": "INT8", "data": [300]}]), None, "from -128 to 127, got 300"),
        (body(inputs=[X | {"parameters": {"binary_data_size": 8}}]), None, "either data or binary_data_size"),
        (body(inputs=[{"name": "x", "shape": [1], "datatype": "FP64"}]), None, "either data or binary_data_size"),
        (body() + b"12345678", str(len(body())), "expected 0 bytes of tensors after the JSON, got 8"),
        (body(), "-1", "Inference-Header-Content-Length"),
        (body(), "999999", "Inference-Header-Content-Length"),
        (body(), "9" * 5000, "Inference-Header-Content-Length"),
    ],
)
def test_what_is_not_as_the_protocol_says_is_refused_with_what_and_where(
    sent: bytes, header: str | None, said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        read(sent, header)


@pytest.mark.parametrize(
    ("datatype", "raw"),
    [("FP64", b"1234567"), ("BOOL", b"\x02"), ("BYTES", b"\x05\x00\x00\x00abc"), ("BYTES", b"\x01"),
     ("BYTES", b"\x01\x00\x00\x00\xff")],
)  # fmt: skip
def test_bytes_that_are_no_elements_of_the_datatype_are_refused(datatype: str, raw: bytes) -> None:
    with pytest.raises(Invalid):
        from_binary(datatype, raw)


@given(st.binary(), st.one_of(st.none(), st.text()))
def test_any_body_is_read_or_refused(sent: bytes, header: str | None) -> None:
    try:
        read(sent, header)
    except Invalid:
        return


@given(st.sampled_from([*NUMBERS, "BOOL", "BYTES"]), st.binary(max_size=64))
def test_any_bytes_are_elements_or_refused(datatype: str, raw: bytes) -> None:
    try:
        values = from_binary(datatype, raw)
    except Invalid:
        return
    if None not in values:
        assert to_binary(datatype, values) == raw


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())


@given(st.sampled_from([*NUMBERS, "BOOL", "BYTES"]), st.lists(st.one_of(SCALARS, st.lists(SCALARS))))
def test_any_data_are_elements_or_refused(datatype: str, data: list[Any]) -> None:
    try:
        values = from_json(datatype, data)
    except Invalid:
        return
    assert len(values) == len(data)


def test_nan_and_null_are_missing_values() -> None:
    assert from_binary("FP32", np.array([np.nan, 1], "<f4").tobytes()) == [None, 1.0]
    assert from_json("BYTES", ["a", None]) == ["a", None]
