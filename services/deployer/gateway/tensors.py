"""Tensors as plain Python lists, from and to JSON and Triton's binary form.

Source: kserve/open-inference-protocol, inference_rest.md; Triton Inference Server, extension_binary_data.md.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from services.deployer.gateway.errors import Invalid

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Value: TypeAlias = float | int | bool | str | None
NUMBERS: Final[tuple[Datatype, ...]] = tuple(each for each in get_args(Datatype) if each not in ("BOOL", "BYTES"))
_LENGTH = struct.Struct("<I")


def from_json(datatype: str, data: Sequence[Any]) -> list[Value]:
    """Elements of a tensor's `data`, flat or one element a row; null is a missing value.

    Raises:
        Invalid: an element is not of the datatype.

    >>> from_json("FP32", [[1], [None]]), from_json("BYTES", ["a"])
    ([1.0, None], ['a'])
    """
    flat = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    kind: Any = {"BOOL": bool, "BYTES": str}.get(datatype, float if datatype.startswith("FP") else int)
    try:
        values: list[Value] = msgspec.convert(flat, list[kind | None])
    except msgspec.ValidationError as error:
        raise Invalid(f"data: {error}") from None
    if kind is int:
        _check_range(datatype, values)
    return values


def _check_range(datatype: str, values: Sequence[Any]) -> None:
    bounds = np.iinfo(datatype.lower())
    for row, value in enumerate(values):
        if value is not None and not bounds.min <= value <= bounds.max:
            raise Invalid(f"data[{row}]: expected {datatype}, from {bounds.min} to {bounds.max}, got {value}")


def from_binary(datatype: str, raw: bytes) -> list[Value]:
    """Elements of a tensor's bytes; NaN is a missing value.

    Raises:
        Invalid: the bytes are not elements of the datatype.

    >>> from_binary("BYTES", b"\\x02\\x00\\x00\\x00ab"), from_binary("BOOL", b"\\x01\\x00")
    (['ab'], [True, False])
    """
    if datatype == "BYTES":
        return [_text(each) for each in _strings(raw)]
    kind = _numpy(datatype)
    if len(raw) % kind.itemsize:
        raise Invalid(f"expected a multiple of {kind.itemsize} bytes for {datatype}, got {len(raw)}")
    array = np.frombuffer(raw, kind)
    if datatype == "BOOL":
        if (array > 1).any():
            raise Invalid("expected bytes 0 and 1 for BOOL")
        return [bool(value) for value in array]
    return [None if value != value else value for value in array.tolist()]  # noqa: PLR0124  # NaN alone differs from itself


def _strings(raw: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        begin = position + _LENGTH.size
        if begin > len(raw) or (end := begin + _LENGTH.unpack_from(raw, position)[0]) > len(raw):
            raise Invalid(f"expected elements of 4 bytes of length and the bytes themselves, got {len(raw)} bytes")
        yield raw[begin:end]
        position = end


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"expected UTF-8, got {error.reason} at byte {error.start} of an element") from None


def to_binary(datatype: str, values: Sequence[Value]) -> bytes:
    """The bytes of elements.

    >>> to_binary("BYTES", ["ab"]), to_binary("INT64", [1])[:2]
    (b'\\x02\\x00\\x00\\x00ab', b'\\x01\\x00')
    """
    if datatype != "BYTES":
        return np.array(values, _numpy(datatype)).tobytes()
    texts = [str(value).encode() for value in values]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def _numpy(datatype: str) -> "np.dtype[Any]":
    """Little-endian, whatever the machine.

    >>> _numpy("FP16").itemsize, _numpy("UINT32").itemsize
    (2, 4)
    """
    name = {"BOOL": "uint8"}.get(datatype, datatype.lower().replace("fp", "float"))
    return np.dtype(name).newbyteorder("<")
