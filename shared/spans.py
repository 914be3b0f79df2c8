"""Texts where somebody keeps them in memory, so that what is written in C reads them in place."""

import ctypes
from collections.abc import Iterator, Sequence
from functools import cached_property
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
    """Of n texts, None where there is none: where each begins, and its size in bytes.

    `addresses` and `sizes` are int64 of shape (n,), both 0 for None; the texts stay there for as long as `held` lives.
    `places` are where these two arrays are, for as long as this lives.
    """

    def __init__(self, addresses: NDArray[np.int64], sizes: NDArray[np.int64], held: object) -> None:
        self.sizes = sizes
        self.places = place_of(addresses), place_of(sizes)
        self._addresses, self._held = addresses, held
        self._library = native(_Library)

    @classmethod
    def of(cls, texts: Sequence[bytes | None]) -> "Spans":
        """Of texts that Python keeps.

        >>> [*Spans.of([b"a", None])]
        [b'a', None]
        """
        held = list(texts)
        found = cls(np.empty(len(held), np.int64), np.empty(len(held), np.int64), held)
        if found._library is None:
            found._addresses[:] = [_address(text) for text in held]
            found.sizes[:] = [len(text or b"") for text in held]
        else:
            found.bytes = found._library.spans(held, len(held), *found.places)
        return found

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> bytes | None:
        return ctypes.string_at(address, int(self.sizes[row])) if (address := int(self._addresses[row])) else None

    def __iter__(self) -> Iterator[bytes | None]:
        for address, size in zip(self._addresses.tolist(), self.sizes.tolist(), strict=True):
            yield ctypes.string_at(address, size) if address else None

    def where(self, kept: NDArray[np.bool_]) -> "Spans":
        """The texts for which the mask says so."""
        return Spans(self._addresses[kept], self.sizes[kept], self._held)

    def same(self, texts: pa.Array) -> NDArray[np.bool_]:
        """Which of them are those in an Arrow array of n strings, none of which is null.

        >>> Spans.of([b"a", None, b"c", b""]).same(pa.array(["a", "b", "d", ""])).tolist()
        [True, False, False, True]
        """
        assert texts.type == pa.string()
        assert len(texts) == len(self)
        if self._library is None or not len(self):
            return self.same_by_python(texts)
        _, offsets, letters = texts.buffers()
        found = np.empty(len(self), np.bool_)
        begin = offsets.address + _ARROW_OFFSET * texts.offset
        self._library.same(len(self), *self.places, begin, letters.address if letters else None, place_of(found))
        return found

    def same_by_python(self, texts: pa.Array) -> NDArray[np.bool_]:
        """`same` by Python."""
        given = texts.cast(pa.binary()).to_pylist()
        return np.array([mine == other for mine, other in zip(self, given, strict=True)], np.bool_)

    @cached_property
    def bytes(self) -> int:
        """Of all texts."""
        return int(self.sizes.sum())


def _address(text: bytes | None) -> int:
    return ctypes.cast(ctypes.c_char_p(text), ctypes.c_void_p).value or 0
