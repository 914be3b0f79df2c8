"""Columns of texts as lines, each with its end, and templates filled from them by lines.c, or without it by Python.

So a batch's texts are a few long ones until its records leave, and not some short ones for each record.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np

from shared.native import Native, native, place_of
from shared.records import ENCODER

_USUAL = bytes(sorted({*range(0x20, 0x7F)} - {ord('"'), ord("\\")}))  # what JSON says as it is


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts; `lines` are as JSON says them between its quotes.

    `given` are the texts where those differ, and None where JSON says every one as it is.
    """

    lines: bytes
    given: Sequence[bytes] | None = None

    def each(self) -> Sequence[bytes]:
        """One by one, in UTF-8."""
        return self.lines.splitlines() if self.given is None else self.given

    def strings(self) -> Iterator[str]:
        """One by one, as Python's own."""
        return map(bytes.decode, self.each())


def texts_of(given: Sequence[bytes]) -> Texts:
    """A column of these; they are UTF-8.

    >>> texts_of([b"a", b"b"])
    Texts(lines=b'a\\nb\\n', given=None)
    >>> texts_of([b"a", b'"'])
    Texts(lines=b'a\\n\\\\"\\n', given=[b'a', b'"'])
    """
    lines = lines_of(given)
    if lines.translate(None, _USUAL) == b"\n" * len(given):
        return Texts(lines)
    return Texts(lines_of(ENCODER.encode(each.decode())[1:-1] for each in given), given)


def lines_of(items: Iterable[bytes]) -> bytes:
    """Texts without line ends, a line each."""
    return b"".join(each + b"\n" for each in items)


class Template:
    """A line with gaps between its pieces.

    >>> Template(b"<", b"-", b">").fill(b"1\\n2\\n", b"a\\nb\\n")
    b'<1-a>\\n<2-b>\\n'
    """

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._blob, self._sizes = b"".join(pieces), (ctypes.c_int64 * len(pieces))(*map(len, pieces))
        self._fill = native(_bound)

    def fill(self, *columns: bytes) -> bytes:
        """A line for each line of the columns, one column a gap; raises ValueError where they have not as many."""
        if len(columns) != len(self._pieces) - 1:
            raise ValueError(f"expected a column for each of {len(self._pieces) - 1} gaps, got {len(columns)}")
        if self._fill is None:
            return self.filled(*columns)
        rows, count, left = columns[0].count(b"\n"), len(columns), list(map(len, columns))
        lines = np.empty(rows * (len(self._blob) + 1) + sum(left), np.uint8)
        begins, sizes = (ctypes.c_char_p * count)(*columns), (ctypes.c_int64 * count)(*left)
        written = self._fill(rows, count, self._blob, self._sizes, begins, sizes, place_of(lines))
        if written < 0:
            raise ValueError("the columns have not as many lines")
        return lines[:written].tobytes()

    def filled(self, *columns: bytes) -> bytes:
        """`fill` by Python."""
        *texts, ends = zip(*(column.split(b"\n") for column in columns), strict=True)
        if any(ends):
            raise ValueError("the columns have not as many lines")
        first, *others = self._pieces
        return lines_of(first + b"".join(map(add, row, others)) for row in texts)


def _bound(library: Native) -> Callable[..., int]:
    fill, count, array = library.keeping.modelbus_fill, ctypes.c_int64, ctypes.c_void_p
    fill.argtypes, fill.restype = [count, count, ctypes.c_char_p, array, array, array, array], count
    return fill
