"""Plain records of a data stream as Arrow columns, read by plain.c, outside of Python's lock.

A record is plain when it is what nearly every producer writes: each member once, ASCII text without escapes, a time
with seconds and a zone, numbers of no more digits than a float has. For the others, good or bad, the shared decoder
answers (`shared.records`), which says the same of every plain record: a property that the tests check. So this is but
speed, and where plain.c has not been compiled (`make` does, with any C compiler) nothing is plain.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature, FloatFeature, StreamSpec
from shared.matrix import Matrix

_LIBRARY = Path(__file__).with_name("libplain.so")
_KINDS: dict[type[Feature], int] = {FloatFeature: 0, BoolFeature: 1, CategoryFeature: 2}
_OPTIONAL = 4
_ID, _ENTITY, _FEATURES = 0, 1, 2  # texts of a record

_POINTERS = ("blob", "ends", "names", "name_ends", "kinds", "matrix", "times", "starts", "lengths", "present", "plain")


class _Columns(ctypes.Structure):
    """`struct columns` of plain.c."""

    _fields_ = [("n", ctypes.c_int64), ("features", ctypes.c_int64), *((name, ctypes.c_void_p) for name in _POINTERS)]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What was read of n records; columns have a row for each, which means something where `plain` says so.

    `matrix` is float64 of shape (features, n): numbers, bools as 0 and 1; NaN is missing, and a text is not there.
    `texts` are the features that are categories, as they were sent; null is missing.
    """

    plain: NDArray[np.bool_]
    ids: pa.Array
    entities: pa.Array
    times: pa.Array
    matrix: Matrix
    texts: dict[int, pa.Array]


class PlainReader:
    """Reads the plain records of one stream, a batch at a time."""

    def __init__(self, spec: StreamSpec) -> None:
        features = list(spec.features.values())
        names = [name.encode() for name in spec.features]
        self._names = b"".join(names)
        self._name_ends = np.fromiter(accumulate(map(len, names)), np.int32, len(names))
        self._kinds = np.array([_kind(each) for each in features], np.uint8)
        self._texts = [index for index, each in enumerate(features) if isinstance(each, CategoryFeature)]

    def read(self, values: Sequence[bytes | None]) -> Plain | None:
        """What n values hold; None where plain.c has not been compiled."""
        if _READ is None:
            return None
        n, features = len(values), len(self._kinds)
        blob = b"".join(value or b"" for value in values) if None in values else b"".join(values)  # type: ignore[arg-type]
        ends = np.fromiter(accumulate(map(_length, values)), np.int64, n)
        matrix, times = np.full((features, n), np.nan), np.zeros(n, np.int64)
        starts, lengths = np.zeros((2 + features, n), np.int64), np.zeros((2 + features, n), np.int32)
        present, plain = np.zeros((features, n), np.uint8), np.zeros(n, np.uint8)
        arrays = (ends, self._name_ends, self._kinds, matrix, times, starts, lengths, present, plain)
        at_ends, name_ends, kinds, *rest = (array.ctypes.data for array in arrays)
        columns = _Columns(n, features, _address(blob), at_ends, _address(self._names), name_ends, kinds, *rest)
        if _READ(ctypes.byref(columns)) < 0:
            raise MemoryError
        texts = {which: _text(columns, which, lengths[which]) for which in (_ID, _ENTITY)}
        return Plain(
            plain=plain.astype(bool),
            ids=texts[_ID],
            entities=texts[_ENTITY],
            times=pa.array(times).view(pa.timestamp("us", "UTC")),
            matrix=matrix,
            texts={
                index: _text(columns, _FEATURES + index, lengths[_FEATURES + index], present[index].astype(bool))
                for index in self._texts
            },
        )


def _kind(feature: Feature) -> int:
    return _KINDS[type(feature)] | (0 if feature.required else _OPTIONAL)


def _length(value: bytes | None) -> int:
    return len(value or b"")


def _address(data: bytes) -> int:
    """Of its first byte, as long as somebody holds it."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def _text(
    columns: _Columns, which: int, lengths: NDArray[np.int32], present: NDArray[np.bool_] | None = None
) -> pa.Array:
    """A text column; null where it is not present."""
    offsets, letters = np.empty(columns.n + 1, np.int32), np.empty(int(lengths.sum()), np.uint8)
    _TEXTS(ctypes.byref(columns), which, offsets.ctypes.data, letters.ctypes.data)
    valid = None if present is None else pa.array(present).buffers()[1]
    return pa.Array.from_buffers(pa.string(), columns.n, [valid, pa.py_buffer(offsets), pa.py_buffer(letters)])


def _loaded() -> tuple[Any, Any]:
    if not _LIBRARY.exists():
        return None, None
    library = ctypes.CDLL(str(_LIBRARY))
    read, texts = library.modelbus_read, library.modelbus_texts
    read.restype, read.argtypes = ctypes.c_int64, [ctypes.POINTER(_Columns)]
    pointer = ctypes.c_void_p
    texts.restype, texts.argtypes = None, [ctypes.POINTER(_Columns), ctypes.c_int64, pointer, pointer]
    return read, texts


_READ, _TEXTS = _loaded()
