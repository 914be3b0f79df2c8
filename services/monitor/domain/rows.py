"""Feature rows of data records that wait for their predictions, by place in the input."""

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

UNSEEN = -1.0  # a category's value that is not declared; no code is negative
Offsets = NDArray[np.int64]
Values = NDArray[np.float32]


class Block(Struct):
    """Rows of one partition with rising offsets: (n,) and float32 (n, features of the stream)."""

    offsets: NDArray[np.int64]
    values: NDArray[np.float32]


class Rows(Struct, kw_only=True):
    """Bounded: the oldest rows of the fullest partition go first, and their predictions count without features."""

    blocks: dict[int, Block] = field(default_factory=dict)
    dropped: int = 0

    def add(self, partition: int, offsets: Offsets, values: Values) -> None:
        """Rows of one partition, behind those that are there."""
        held = self.blocks.get(partition)
        if held is None or held.values.shape[1] != values.shape[1]:  # the stream has other features now
            self.blocks[partition] = Block(offsets, values)
        else:
            joined = np.concatenate([held.offsets, offsets]), np.concatenate([held.values, values])
            self.blocks[partition] = Block(*joined)

    def find(self, partitions: Offsets, offsets: Offsets, width: int) -> tuple[NDArray[np.bool_], Values]:
        """Rows at places (n,): whether each is here, (n,), and its values, (n, width), NaN where it is not."""
        found = np.zeros(len(offsets), dtype=bool)
        values = np.full((len(offsets), width), np.nan, dtype=np.float32)
        for partition, block in self.blocks.items():
            if block.values.shape[1] != width or not len(block.offsets):
                continue
            mine = np.flatnonzero(partitions == partition)
            at = np.searchsorted(block.offsets, offsets[mine]).clip(max=len(block.offsets) - 1)
            hit = block.offsets[at] == offsets[mine]
            found[mine[hit]] = True
            values[mine[hit]] = block.values[at[hit]]
        return found, values

    def answered(self, until: dict[int, int], newest: int = 0) -> None:
        """Forget rows below these offsets, but not the `newest` of each partition."""
        for partition, block in self.blocks.items():
            start = int(np.searchsorted(block.offsets, until.get(partition, 0)))
            start = min(start, max(0, len(block.offsets) - newest))
            self.blocks[partition] = Block(block.offsets[start:], block.values[start:])

    def bound(self, rows: int) -> None:
        """Keep at most so many, shared evenly among partitions."""
        if sum(len(block.offsets) for block in self.blocks.values()) <= rows:
            return
        share = rows // len(self.blocks)
        for partition, block in self.blocks.items():
            start = max(0, len(block.offsets) - share)
            self.dropped += start
            self.blocks[partition] = Block(block.offsets[start:], block.values[start:])
