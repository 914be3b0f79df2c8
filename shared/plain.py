"""Usual records of a data stream as columns, read by plain.c, outside of Python's lock.

A record is usual when it is what nearly every producer writes: each member once, ASCII text without escapes, a time
with seconds and a zone, numbers of 18 digits at most; and when nothing in it needs a flag or a refusal. For the others,
good or bad, the shared decoder answers (`shared.records`), which says the same of every usual record: a property that
the tests check. So this is but speed, and where plain.c has not been compiled (`shared.native`) nothing is usual.
"""

import ctypes
from collections.abc import Iterable
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature, FloatFeature, StreamSpec
from shared.matrix import Matrix
from shared.native import Native, check_layout, native, place_of
from shared.records import MAX_EVENT_BYTES, MAX_ID_LETTERS, bounds_of
from shared.spans import Spans

_KINDS: dict[type[Feature], int] = {FloatFeature: 0, BoolFeature: 1, CategoryFeature: 2}
_OPTIONAL = 4
_MOST_LETTERS_OF_A_COLUMN = 2**31 - 1
ID, ENTITY, TIME = range(3)  # what is written as text
_TIME_LETTERS = 27  # at most


class _Declared(NamedTuple):
    """What a stream's records are to be; the values of each category in the order of their bytes."""

    names: NDArray[np.uint8]
    name_ends: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    values: NDArray[np.uint8]
    value_ends: NDArray[np.int32]
    category_ends: NDArray[np.int32]
    codes: NDArray[np.float64]


class _Filled(NamedTuple):
    """What plain.c says of records."""

    matrix: Matrix
    times: NDArray[np.int64]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    letters: NDArray[np.int64]
    usual: NDArray[np.uint8]


class _Columns(ctypes.Structure):
    """`struct columns` of plain.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "features", "most_bytes", "most_letters")),
        *((name, ctypes.c_void_p) for name in ("records", "sizes", *_Declared._fields, *_Filled._fields)),
    ]


class _Library:
    """plain.c."""

    def __init__(self, library: Native) -> None:
        freeing, keeping = library.freeing, library.keeping
        columns, out = ctypes.POINTER(_Columns), ctypes.c_void_p
        self.read, self.texts, self.lines = freeing.modelbus_read, freeing.modelbus_texts, keeping.modelbus_lines
        self.read.argtypes, self.read.restype = [columns], ctypes.c_int64
        self.texts.argtypes, self.texts.restype = [columns, ctypes.c_int64, out, out], None
        self.lines.argtypes, self.lines.restype = [columns, ctypes.c_int64, out], ctypes.c_int64
        check_layout(keeping.modelbus_columns_bytes, _Columns)


class Plain:
    """What was read of n records; a row means something where it is `usual`.

    `matrix` is float64 of shape (features, n): the shared decoder's, on its side. `times` are microseconds since 1970.
    """

    def __init__(self, library: _Library, columns: _Columns, filled: _Filled, found: int, held: object) -> None:
        self.matrix, self.times, self.usual = filled.matrix, filled.times, filled.usual.view(np.bool_)
        self.any, self.all, self._found = found > 0, found == columns.n, found
        self._library, self._columns, self._filled, self._held = library, columns, filled, held

    def text(self, which: int) -> pa.Array:
        """Ids or entities of the usual records alone, as Arrow keeps them."""
        offsets, letters = np.empty(self._found + 1, np.int32), np.empty(self._filled.letters[which], np.uint8)
        self._library.texts(self._columns, which, place_of(offsets), place_of(letters))
        return pa.Array.from_buffers(pa.string(), self._found, [None, pa.py_buffer(offsets), pa.py_buffer(letters)])

    def lines(self, which: int) -> bytes:
        """Ids, entities or times (UTC, as the shared encoder writes them) of the usual records alone, a line each."""
        most = _TIME_LETTERS * self._columns.n if which == TIME else self._filled.letters[which]
        lines = np.empty(most + self._columns.n, np.uint8)
        end = self._library.lines(self._columns, which, place_of(lines))
        return lines[:end].tobytes()


class PlainReader:
    """Reads the usual records of one stream, a batch at a time."""

    def __init__(self, spec: StreamSpec) -> None:
        self._features = len(spec.features)
        self._declared = _declared(spec)
        self._places = [array.ctypes.data for array in self._declared]  # to ask takes as long as reading a record
        self._library = native(_Library)

    def read(self, values: Spans) -> Plain | None:
        """What n values hold; None where plain.c has not been compiled, or for more than Arrow's texts can hold."""
        if self._library is None or values.bytes > _MOST_LETTERS_OF_A_COLUMN:
            return None
        n = len(values)
        filled = _Filled(
            matrix=np.empty((self._features, n)),
            times=np.empty(n, np.int64),
            starts=np.empty((2, n), np.int32),
            lengths=np.empty((2, n), np.int32),
            letters=np.empty(2, np.int64),
            usual=np.empty(n, np.uint8),
        )
        sizes = n, self._features, MAX_EVENT_BYTES, MAX_ID_LETTERS
        columns = _Columns(*sizes, *values.places, *self._places, *map(place_of, filled))
        found = self._library.read(columns)
        if found < 0:
            raise MemoryError
        return Plain(self._library, columns, filled, found, held=values)


def _declared(spec: StreamSpec) -> _Declared:
    names = [f'"{name}"'.encode() for name in spec.features]
    values = [_coded(each) for each in spec.features.values()]
    every = list(chain.from_iterable(values))
    lows, highs = bounds_of(spec)
    return _Declared(
        names=np.frombuffer(b"".join(names), np.uint8),
        name_ends=_ends(map(len, names)),
        kinds=np.array([_kind(each) for each in spec.features.values()], np.uint8),
        lows=lows,
        highs=highs,
        values=np.frombuffer(b"".join(value for value, _ in every), np.uint8),
        value_ends=_ends(len(value) for value, _ in every),
        category_ends=_ends(map(len, values)),
        codes=np.array([code for _, code in every], np.float64),
    )


def _coded(feature: Feature) -> list[tuple[bytes, int]]:
    """A category's values and their codes."""
    values = feature.values if isinstance(feature, CategoryFeature) else ()
    return sorted((value.encode(), code) for code, value in enumerate(values))


def _ends(sizes: Iterable[int]) -> NDArray[np.int32]:
    return np.array(list(accumulate(sizes)), np.int32)


def _kind(feature: Feature) -> int:
    return _KINDS[type(feature)] | (0 if feature.required else _OPTIONAL)
