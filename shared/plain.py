"""Plain records of a data stream as Arrow columns, read by plain.c, outside of Python's lock.

A record is plain when it is what nearly every producer writes: each member once, ASCII text without escapes, a time
with seconds and a zone, numbers of 18 digits at most. For the others, good or bad, the shared decoder
answers (`shared.records`), which says the same of every plain record: a property that the tests check. So this is but
speed, and where plain.c has not been compiled (`make` does, with any C compiler) nothing is plain.
"""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature, FloatFeature, StreamSpec
from shared.matrix import Matrix
from shared.records import MAX_EVENT_BYTES, MAX_ID_LETTERS

log = logging.getLogger(__name__)
_LIBRARY, _SOURCE = (Path(__file__).with_name(name) for name in ("libplain.so", "plain.c"))
_KINDS: dict[type[Feature], int] = {FloatFeature: 0, BoolFeature: 1, CategoryFeature: 2}
_OPTIONAL = 4
_MOST_LETTERS_OF_A_COLUMN = 2**31 - 1
_ID, _ENTITY, _FEATURES = 0, 1, 2  # texts of a record

_NUMBERS = ("n", "features", "most_bytes", "most_letters")
_POINTERS = ("blob", "ends", "names", "name_ends", "kinds", "matrix", "times", "starts", "lengths", "present", "plain")


class _Columns(ctypes.Structure):
    """`struct columns` of plain.c."""

    _fields_ = [*((name, ctypes.c_int64) for name in _NUMBERS), *((name, ctypes.c_void_p) for name in _POINTERS)]


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
        self._library = _library()

    def read(self, values: Sequence[bytes | None]) -> Plain | None:
        """What n values hold; None where plain.c has not been compiled, or for more than Arrow's texts can hold."""
        if self._library is None:
            return None
        n, features = len(values), len(self._kinds)
        blob = b"".join(value or b"" for value in values) if None in values else b"".join(values)  # type: ignore[arg-type]
        if len(blob) > _MOST_LETTERS_OF_A_COLUMN:
            return None
        ends = np.fromiter(accumulate(map(_length, values)), np.int64, n)
        matrix, times = np.full((features, n), np.nan), np.zeros(n, np.int64)
        starts, lengths = np.zeros((2 + features, n), np.int64), np.zeros((2 + features, n), np.int32)
        present, plain = np.zeros((features, n), np.uint8), np.zeros(n, np.uint8)
        arrays = (ends, self._name_ends, self._kinds, matrix, times, starts, lengths, present, plain)
        at_ends, name_ends, kinds, *rest = (array.ctypes.data for array in arrays)
        sizes = (n, features, MAX_EVENT_BYTES, MAX_ID_LETTERS)
        columns = _Columns(*sizes, _address(blob), at_ends, _address(self._names), name_ends, kinds, *rest)
        if self._library.modelbus_read(ctypes.byref(columns)) < 0:
            raise MemoryError
        ids, entities = (self._text(columns, which, lengths[which]) for which in (_ID, _ENTITY))
        return Plain(
            plain=plain.astype(bool),
            ids=ids,
            entities=entities,
            times=pa.array(times).view(pa.timestamp("us", "UTC")),
            matrix=matrix,
            texts={
                index: self._text(columns, _FEATURES + index, lengths[_FEATURES + index], present[index].astype(bool))
                for index in self._texts
            },
        )

    def _text(
        self, columns: _Columns, which: int, lengths: NDArray[np.int32], present: NDArray[np.bool_] | None = None
    ) -> pa.Array:
        """A text column; null where it is not present."""
        assert self._library is not None
        offsets, letters = np.empty(columns.n + 1, np.int32), np.empty(int(lengths.sum()), np.uint8)
        self._library.modelbus_texts(ctypes.byref(columns), which, offsets.ctypes.data, letters.ctypes.data)
        valid = None if present is None else pa.array(present).buffers()[1]
        return pa.Array.from_buffers(pa.string(), columns.n, [valid, pa.py_buffer(offsets), pa.py_buffer(letters)])


def _kind(feature: Feature) -> int:
    return _KINDS[type(feature)] | (0 if feature.required else _OPTIONAL)


def _length(value: bytes | None) -> int:
    return len(value or b"")


def _address(data: bytes) -> int:
    """Of its first byte, as long as somebody holds it."""
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


@cache
def _library() -> ctypes.CDLL | None:
    """plain.c as it was compiled for this code; None where it was not."""
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        old = _LIBRARY.stat().st_mtime < _SOURCE.stat().st_mtime
        fits = not old and library.modelbus_columns_bytes() == ctypes.sizeof(_Columns)
    except (OSError, AttributeError) as error:
        log.warning("plain.c is not compiled, so records are read more slowly: %s", error)
        return None
    if not fits:
        log.warning("%s is of another plain.c, so records are read more slowly; `make` compiles it", _LIBRARY)
        return None
    library.modelbus_read.restype = ctypes.c_int64
    library.modelbus_texts.argtypes = [ctypes.POINTER(_Columns), ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    return library
