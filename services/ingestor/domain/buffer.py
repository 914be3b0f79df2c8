"""Records of one table that wait for a commit, and the places in their partitions between which they lie."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from services.ingestor.domain.blocks import Block, ReadBlock, Refused

_NOWHERE = 2**63 - 1  # an offset that no record has


def astray(starts: Mapping[int, int], committed: Mapping[int, int]) -> set[int]:
    """Partitions whose rows must be dropped: they do not start where the table's transactions end.

    >>> astray({0: 10, 1: 5}, {0: 10, 1: 9})
    {1}
    """
    return {partition for partition, start in starts.items() if committed.get(partition, 0) != start}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one commit is made of: partition → where its records start, and the offset after the last of them.

    `killers` end whatever process reads them: once the batch is `sifted`, they are no longer among the blocks.
    """

    blocks: tuple[Block | ReadBlock, ...]
    starts: Mapping[int, int]
    nexts: Mapping[int, int]
    sifted: bool = False
    killers: tuple[Refused, ...] = ()

    @property
    def rows(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def unread(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def without(self, partition: int) -> "Batch":
        """The rest, when somebody else owns a partition."""
        return replace(
            self,
            blocks=_present(block.where(block.partitions != partition) for block in self.blocks),
            starts={number: start for number, start in self.starts.items() if number != partition},
            nexts={number: end for number, end in self.nexts.items() if number != partition},
            killers=tuple(each for each in self.killers if each.taken.partition != partition),
        )

    def isolated(self, killers: Collection[Refused]) -> "Batch":
        """The same batch, sifted: these need not be read."""
        doomed = {(each.taken.partition, each.taken.offset) for each in killers}
        kept = (
            block.where(np.array([place not in doomed for place in block.places()]))
            if isinstance(block, Block)
            else block
            for block in self.blocks
        )
        ours = (each for each in killers if each.taken.partition in self.starts)
        return replace(self, blocks=_present(kept), sifted=True, killers=tuple(ours))


class Buffer:
    """Grows by blocks, in the order of their partitions; a partition takes part once it has its place."""

    def __init__(self) -> None:
        self.rows = self.bytes = 0
        self.oldest: float | None = None
        self._blocks: tuple[Block | ReadBlock, ...] = ()
        self._starts: dict[int, int] = {}
        self._nexts: dict[int, int] = {}

    def place(self, partition: int, offset: int) -> None:
        """Records of `partition` come from `offset` on; what waited of it is dropped."""
        self.drop(partition)
        self._starts[partition] = self._nexts[partition] = offset

    def drop(self, partition: int) -> int:
        """Forget a partition; returns how many of its records waited."""
        self._starts.pop(partition, None)
        self._nexts.pop(partition, None)
        before = self.rows
        self._keep(_present(block.where(block.partitions != partition) for block in self._blocks))
        return before - self.rows

    def add(self, block: Block, now: float, read: Callable[[Block], ReadBlock] | None = None) -> int:
        """Take what has a place and does not lie before it: what does is in the table already. Returns how many."""
        kept = np.ones(len(block), dtype=bool)
        for partition in block.ends:
            first = self._nexts.get(partition, _NOWHERE)
            kept &= (block.partitions != partition) | (block.offsets >= first)
        if len(wanted := block.where(kept)):
            self._nexts |= wanted.ends
            self._keep((*self._blocks, read(wanted) if read else wanted))
            self.oldest = now if self.oldest is None else self.oldest
        return len(wanted)

    def full(self, *, rows: int, bytes: int) -> bool:
        """Whether a commit's worth waits."""
        return self.rows >= rows or self.bytes >= bytes

    def due(self, now: float, *, rows: int, bytes: int, seconds: float) -> bool:
        """Whether it is time to commit."""
        return self.oldest is not None and (self.full(rows=rows, bytes=bytes) or now - self.oldest >= seconds)

    def places(self) -> dict[int, int]:
        """Partition → the offset to be taken next; all partitions."""
        return dict(self._nexts)

    def cut(self) -> Batch:
        """Hand over what waits, and start anew behind it."""
        moved = [partition for partition, start in self._starts.items() if start != self._nexts[partition]]
        batch = Batch(
            blocks=self._blocks,
            starts={partition: self._starts[partition] for partition in moved},
            nexts={partition: self._nexts[partition] for partition in moved},
        )
        self._starts = dict(self._nexts)
        self._keep(())
        return batch

    def _keep(self, blocks: tuple[Block | ReadBlock, ...]) -> None:
        self._blocks = blocks
        self.rows, self.bytes = sum(map(len, blocks)), sum(block.bytes for block in blocks)
        if not blocks:
            self.oldest = None


def _present(blocks: Iterable[Block | ReadBlock]) -> tuple[Block | ReadBlock, ...]:
    return tuple(block for block in blocks if len(block))
