"""Pairs of events that may hang together: those of one entity, and those of one stretch of time (a day's weather).

Bounded whatever comes: entities are hashed to 256 buckets, which are independent when entities are; time is cut into at
most 32 stretches of equal length, and when there are more the length is doubled (dynamic batch means: Schmeiser, Batch
size effects in the analysis of simulation output, Operations Research 30, 1982). Counts and totals of both merge.
"""

from typing import Literal
from zlib import crc32

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from schemas.events.monitor import Groups

BUCKETS = 256
_STRETCHES = 32
_SECOND = 1_000_000
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


def bucket_of(entity: str) -> int:
    """Of this entity, everywhere and always."""
    return crc32(entity.encode()) % BUCKETS


class Grouped(Struct, kw_only=True):
    """Counts and totals (BUCKETS,) by entity, and by the number of a stretch of `length` µs since 1970."""

    counts: Whole = field(default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64))
    totals: Floats = field(default_factory=lambda: np.zeros(BUCKETS))
    length: int = _SECOND
    stretches: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add(self, buckets: Whole, times: Whole, values: Floats) -> None:
        """Values (n,) of events at `times`; a bucket of -1 is not known."""
        known = buckets >= 0
        self.counts += np.bincount(buckets[known], minlength=BUCKETS)
        np.add.at(self.totals, buckets[known], values[known])
        numbers = times // self.length
        for number in np.unique(numbers).tolist():
            self._stretch(number, values[numbers == number])
        while len(self.stretches) > _STRETCHES:
            self._double()

    def _stretch(self, number: int, values: Floats) -> None:
        count, total = self.stretches.get(number, (0, 0.0))
        self.stretches[number] = count + len(values), onto(total, values)

    def _double(self) -> None:
        self.length *= 2
        merged: dict[int, tuple[int, float]] = {}
        for number, (count, total) in sorted(self.stretches.items()):
            before = merged.get(number // 2, (0, 0.0))
            merged[number // 2] = before[0] + count, before[1] + total
        self.stretches = merged

    def said(self) -> tuple[Groups, ...]:
        stretches = [self.stretches[number] for number in sorted(self.stretches)]
        counts = np.array([count for count, _ in stretches], dtype=np.int64)
        totals = np.array([total for _, total in stretches], dtype=np.float64)
        return _groups("entity", self.counts, self.totals), _groups("time", counts, totals)


def onto(total: float, values: Floats) -> float:
    """The sum, one value after the other, so that it does not depend on where a round began.

    >>> onto(0.5, np.array([0.25, 0.25]))
    1.0
    """
    return float(np.add.accumulate(np.append(total, values))[-1])


def _groups(by: Literal["entity", "time"], counts: Whole, totals: Floats) -> Groups:
    return Groups(
        by=by,
        groups=int(np.count_nonzero(counts)),
        n=int(counts.sum()),
        counts_squared=int((counts * counts).sum()),
        products=float((counts * totals).sum()),
        totals_squared=float((totals * totals).sum()),
    )
