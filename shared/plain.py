"""Plain records of a data stream as columns, read by plain.c, outside of Python's lock.

A record is plain when it is what nearly every producer writes: each member once, ASCII text without escapes, a time
with seconds and a zone, numbers of 18 digits at most; and usual when nothing in it needs a flag, or a refusal. For the
others, good or bad, the shared decoder answers (`shared.records`), which says the same of every usual record: a
property that the tests check. So this is but speed, and where plain.c has not been compiled (`make` does, with any C
compiler) nothing is plain.
"""

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature, FloatFeature, StreamSpec
from shared.matrix import Matrix
from shared.records import MAX_EVENT_BYTES, MAX_ID_LETTERS, bounds_of

log = logging.getLogger(__name__)
_LIBRARY, _SOURCE = (Path(__file__).with_name(name) for name in ("libplain.so", "plain.c"))
_KINDS: dict[type[Feature], int] = {FloatFeature: 0, BoolFeature: 1, CategoryFeature: 2}
_OPTIONAL = 4
_MOST_LETTERS_OF_A_COLUMN = 2**31 - 1
TIME, ID, ENTITY, _FEATURES = -1, 0, 1, 2  # texts of a record, and the first of its features'
_TIME_LETTERS = 27  # at most

_NUMBERS = ("n", "features", "most_bytes", "most_letters")
_POINTERS = ("blob", "ends", "names", "name_ends", "kinds", "matrix", "times", "starts", "lengths", "present", "plain")


class _Columns(ctypes.Structure):
    """`struct columns` of plain.c."""

    _fields_ = [*((name, ctypes.c_int64) for name in _NUMBERS), *((name, ctypes.c_void_p) for name in _POINTERS)]


class Plain:
    """What was read of n records; a row means something where it is `usual`.

    `matrix` is float64 of shape (features, n): the shared decoder's, on its side. `texts` are the features that are
    categories, as they were sent; null is missing.
    """

    def __init__(self, library: ctypes.CDLL, columns: _Columns, arrays: "_Arrays") -> None:
        self._library, self._columns, self._arrays = library, columns, arrays
        self.usual: NDArray[np.bool_] = arrays.plain.astype(bool)
        self.matrix: Matrix = arrays.matrix
        self.texts: dict[int, pa.Array] = {}

    @property
    def times(self) -> pa.Array:
        return pa.array(self._arrays.times).view(pa.timestamp("us", "UTC"))

    def text(self, which: int, present: NDArray[np.bool_] | None = None) -> pa.Array:
        """Ids or entities, or a feature's text, as Arrow keeps them; null where it is not present."""
        count, most = self._columns.n, int(self._arrays.lengths[which].sum())
        offsets, letters = np.empty(count + 1, np.int32), np.empty(most, np.uint8)
        self._library.modelbus_texts(ctypes.byref(self._columns), which, offsets.ctypes.data, letters.ctypes.data)
        valid = None if present is None else pa.array(present).buffers()[1]
        return pa.Array.from_buffers(pa.string(), count, [valid, pa.py_buffer(offsets), pa.py_buffer(letters)])

    def lines(self, which: int) -> bytes:
        """Ids, entities or times (UTC, as the shared encoder writes them), a line each; empty where it is not plain."""
        most = _TIME_LETTERS * self._columns.n if which == TIME else int(self._arrays.lengths[which].sum())
        lines = np.empty(most + self._columns.n, np.uint8)
        end = self._library.modelbus_lines(ctypes.byref(self._columns), which, lines.ctypes.data)
        return lines[:end].tobytes()


class _Arrays(NamedTuple):
    """What plain.c reads and fills, in the order of `_Columns`; they live as long as the columns point to them."""

    blob: NDArray[np.uint8]
    ends: NDArray[np.int64]
    names: NDArray[np.uint8]
    name_ends: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    matrix: Matrix
    times: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]
    present: NDArray[np.uint8]
    plain: NDArray[np.uint8]


class PlainReader:
    """Reads the usual records of one stream, a batch at a time."""

    def __init__(self, spec: StreamSpec) -> None:
        features = list(spec.features.values())
        names = [name.encode() for name in spec.features]
        self._names = np.frombuffer(b"".join(names), np.uint8)
        self._name_ends = np.fromiter(accumulate(map(len, names)), np.int32, len(names))
        self._kinds = np.array([_kind(each) for each in features], np.uint8)
        self._lows, self._highs = (bounds[:, np.newaxis] for bounds in bounds_of(spec))
        self._values = {
            index: pa.array(each.values, pa.string())
            for index, each in enumerate(features)
            if isinstance(each, CategoryFeature)
        }
        self._library = _library()

    def read(self, values: Sequence[bytes | None]) -> Plain | None:
        """What n values hold; None where plain.c has not been compiled, or for more than Arrow's texts can hold."""
        if self._library is None:
            return None
        n, features = len(values), len(self._kinds)
        given = [value or b"" for value in values]
        blob = b"".join(given)
        if len(blob) > _MOST_LETTERS_OF_A_COLUMN:
            return None
        arrays = _Arrays(
            blob=np.frombuffer(blob, np.uint8),
            ends=np.cumsum(np.fromiter(map(len, given), np.int64, n)),
            names=self._names,
            name_ends=self._name_ends,
            kinds=self._kinds,
            matrix=np.full((features, n), np.nan),
            times=np.zeros(n, np.int64),
            starts=np.zeros((2 + features, n), np.int64),
            lengths=np.zeros((2 + features, n), np.int32),
            present=np.zeros((features, n), np.uint8),
            plain=np.zeros(n, np.uint8),
        )
        columns = _Columns(n, features, MAX_EVENT_BYTES, MAX_ID_LETTERS, *(array.ctypes.data for array in arrays))
        if self._library.modelbus_read(ctypes.byref(columns)) < 0:
            raise MemoryError
        plain = Plain(self._library, columns, arrays)
        for index, coded in self._values.items():
            present = arrays.present[index].astype(bool)
            plain.texts[index] = text = plain.text(_FEATURES + index, present)
            codes = pc.index_in(text, value_set=coded).cast(pa.float64())
            plain.matrix[index] = codes.to_numpy(zero_copy_only=False)
            plain.usual &= ~(present & np.isnan(plain.matrix[index]))
        plain.usual &= ~((plain.matrix < self._lows) | (plain.matrix > self._highs)).any(axis=0)
        return plain


def _kind(feature: Feature) -> int:
    return _KINDS[type(feature)] | (0 if feature.required else _OPTIONAL)


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
    library.modelbus_lines.restype = ctypes.c_int64
    library.modelbus_lines.argtypes = [ctypes.POINTER(_Columns), ctypes.c_int64, ctypes.c_void_p]
    library.modelbus_texts.argtypes = [ctypes.POINTER(_Columns), ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    return library
