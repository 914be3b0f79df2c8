"""Texts where Python keeps them, so that what is written in C reads them in place; without spans.c by Python."""

import ctypes
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.native import Native, native, place_of

_ARROW_OFFSET: Final = np.dtype(np.int32).itemsize


class _Library:
    """spans.c; the list is walked under Python's lock."""

    def __init__(self, library: Native) -> None:
        count, array = ctypes.c_int64, ctypes.c_void_p
        self.spans, self.same = library.keeping.modelbus_spans, library.keeping.modelbus_same
        self.spans.argtypes, self.spans.restype = [ctypes.py_object, count, array, array], count
        self.same.argtypes, self.same.restype = [count, array, array, array, array, array], None


class Spans:
    """Of n texts, None where there is none: where each begins, and its size in bytes; `bytes` is that of all.

    `sizes` is int64 of shape (n,), as are the addresses; both are 0 for None. `places` are where these two arrays are,
    for as long as this lives; there are none where spans.c has not been compiled.
    """

    places: tuple[int, int] | None = None

    def __init__(self, texts: Sequence[bytes | None]) -> None:
        self._held = list(texts)
        self._library = native(_Library)
        count = len(self._held)
        if self._library is None:
            self.sizes = np.array([len(text or b"") for text in self._held], np.int64)
            self.bytes = int(self.sizes.sum())
        else:
            self._addresses, self.sizes = np.empty(count, np.int64), np.empty(count, np.int64)
            self.places = place_of(self._addresses), place_of(self.sizes)
            self.bytes = self._library.spans(self._held, count, *self.places)

    def __len__(self) -> int:
        return len(self._held)

    def same(self, texts: pa.Array) -> NDArray[np.bool_]:
        """Which of them are those in an Arrow array of n strings, none of which is null.

        >>> Spans([b"a", None, b"c", b""]).same(pa.array(["a", "b", "d", ""])).tolist()
        [True, False, False, True]
        """
        assert texts.type == pa.string()
        assert len(texts) == len(self)
        if self._library is None or self.places is None or not len(self):
            return self.same_by_python(texts)
        _, offsets, letters = texts.buffers()
        found = np.empty(len(self), np.bool_)
        begin = offsets.address + _ARROW_OFFSET * texts.offset
        self._library.same(len(self), *self.places, begin, letters.address if letters else None, place_of(found))
        return found

    def same_by_python(self, texts: pa.Array) -> NDArray[np.bool_]:
        """`same` by Python."""
        given = texts.cast(pa.binary()).to_pylist()
        return np.array([mine == other for mine, other in zip(self._held, given, strict=True)], np.bool_)
