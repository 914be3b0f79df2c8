"""Windows of served predictions of one version: counts over frozen bins, integers, the same in any order."""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from services.monitor.domain.bins import Bins
from shared.expectation import Cells
from shared.matrix import Inputs

Vector = dict[int, int]


class Window(Struct, kw_only=True):
    """An open window: predictions of a version from one vector on."""

    number: int
    start: Vector
    predictions: int = 0
    with_inputs: int = 0
    time_min: int = 0
    time_max: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    cells: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2, 0), dtype=np.int64))  # of probabilities
    lows: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    highs: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    out_of_range: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    beyond: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    unseen: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # not declared

    def add(
        self,
        bins: Bins,
        limits: Inputs,
        times: NDArray[np.int64],
        inputs: Inputs,
        scores: NDArray[np.float64],
        *,
        unseen: NDArray[np.int64],
        cells: Cells,
    ) -> None:
        """Predictions (n,) and those of their inputs that are known (m, features); `limits` as `faults.limits`.

        `unseen` counts values that are not declared, by feature; `cells` counts their
        probabilities as shared.expectation does; a window whose classes changed keeps none.
        """
        counts = bins.count(inputs, scores)
        width = inputs.shape[1]
        if not self.predictions:
            self.time_min, self.time_max = int(times.min()), int(times.max())
            self.counts, self.cells = np.zeros_like(counts), np.zeros_like(cells)
            self.lows, self.highs = np.full(width, np.inf, np.float32), np.full(width, -np.inf, np.float32)
            self.out_of_range, self.beyond = np.zeros(width, np.int64), np.zeros(width, np.int64)
            self.unseen = np.zeros(width, np.int64)
        self.predictions += len(times)
        self.with_inputs += len(inputs)
        self.time_min, self.time_max = min(self.time_min, int(times.min())), max(self.time_max, int(times.max()))
        self.counts = self.counts + counts
        self.unseen = self.unseen + unseen if len(self.unseen) else unseen
        self.cells = self.cells + cells if self.cells.shape == cells.shape else self.cells[:0]
        if len(inputs):
            self.lows = np.fmin(self.lows, np.fmin.reduce(inputs, axis=0))
            self.highs = np.fmax(self.highs, np.fmax.reduce(inputs, axis=0))
            self.out_of_range += ((inputs < limits[0]) | (inputs > limits[1])).sum(axis=0)
            self.beyond += ((inputs < limits[2]) | (inputs > limits[3])).sum(axis=0)


def in_merged_order(partitions: Sequence[int], offsets: Sequence[int], times: Sequence[int]) -> NDArray[np.intp]:
    """Order of records by the highest time their partition has reached, then place.

    Any beginning of it is a beginning of every partition, so that it has an offset vector; and it does not depend on
    how the partitions arrived. Records of a partition must be given in the order of their offsets.
    """
    of, at, when = np.array(partitions, np.int64), np.array(offsets, np.int64), np.array(times, np.int64)
    reached = when.copy()
    for partition in np.unique(of):
        mine = of == partition
        reached[mine] = np.maximum.accumulate(when[mine])
    return np.lexsort((at, of, reached))


def vector_after(start: Vector, partitions: NDArray[np.int64], offsets: NDArray[np.int64]) -> Vector:
    """Next offsets when these records were taken from `start` on.

    >>> vector_after({0: 3, 1: 1}, np.array([0, 0, 2]), np.array([3, 4, 9]))
    {0: 5, 1: 1, 2: 10}
    """
    after = dict(start)
    for partition in np.unique(partitions).tolist():
        after[partition] = max(after.get(partition, 0), int(offsets[partitions == partition].max()) + 1)
    return after


def pieces(room: int, size: int, count: int) -> Iterator[tuple[int, int, bool]]:
    """How `count` records fill windows of `size`, the first of which has `room`: (from, until, whether it closes).

    >>> list(pieces(2, 3, 6))
    [(0, 2, True), (2, 5, True), (5, 6, False)]
    """
    start = 0
    while start < count:
        end = min(count, start + room)
        yield start, end, end - start == room
        start, room = end, size
