"""Records as they stood in their topic, a block at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shared.dead_letters import Reason
from shared.spans import Spans


class Taken(NamedTuple):
    """A record as it stood in its topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Refused(NamedTuple):
    """A record that goes to the dead letters, and why."""

    taken: Taken
    reason: Reason
    error: str
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Block:
    """n records of one topic as columns, those of each partition in its order; `origin(i)` is record i whole."""

    partitions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    keys: Spans
    values: Spans
    origin: Callable[[int], Taken]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def bytes(self) -> int:
        """Of the values."""
        return self.values.bytes

    @cached_property
    def ends(self) -> Mapping[int, int]:
        """Partition → the offset after its last record.

        >>> block_of([Taken(0, 5, 0, None, None), Taken(1, 2, 0, None, None), Taken(0, 7, 0, None, None)]).ends
        {0: 8, 1: 3}
        """
        present = np.flatnonzero(np.bincount(self.partitions)).tolist()
        backwards = self.partitions[::-1]
        last = {partition: len(self) - 1 - int(np.argmax(backwards == partition)) for partition in present}
        return {partition: int(self.offsets[row]) + 1 for partition, row in last.items()}

    def places(self) -> Iterator[tuple[int, int]]:
        """Partition and offset of each record."""
        return zip(self.partitions.tolist(), self.offsets.tolist(), strict=True)

    def where(self, kept: NDArray[np.bool_]) -> "Block":
        """The records for which the mask says so."""
        if kept.all():
            return self
        rows = np.flatnonzero(kept).tolist()
        return Block(
            partitions=self.partitions[kept],
            offsets=self.offsets[kept],
            keys=self.keys.where(kept),
            values=self.values.where(kept),
            origin=lambda row: self.origin(rows[row]),
        )


@dataclass(frozen=True, kw_only=True)
class ReadBlock:
    """What n records came to: m rows of their table, and the refused; nothing else is kept of them.

    `accepted` says of each record whether it is a row, `keyed` of each row whether its record's key is its entity.
    """

    partitions: NDArray[np.int32]
    bytes: int
    table: pa.Table
    accepted: NDArray[np.bool_]
    keyed: NDArray[np.bool_]
    refused: list[Refused]

    def __len__(self) -> int:
        return len(self.partitions)

    def where(self, kept: NDArray[np.bool_]) -> "ReadBlock":
        """The records for which the mask says so."""
        rows, refused = kept[self.accepted], kept[~self.accepted]
        return ReadBlock(
            partitions=self.partitions[kept],
            bytes=self.bytes * int(kept.sum()) // max(len(self), 1),
            table=self.table.filter(pa.array(rows)),
            accepted=self.accepted[kept],
            keyed=self.keyed[rows],
            refused=[each for each, there in zip(self.refused, refused.tolist(), strict=True) if there],
        )


def block_of(taken: Sequence[Taken]) -> Block:
    """A block of records that are at hand whole."""
    return Block(
        partitions=np.array([record.partition for record in taken], dtype=np.int32),
        offsets=np.array([record.offset for record in taken], dtype=np.int64),
        keys=Spans.of([record.key for record in taken]),
        values=Spans.of([record.value for record in taken]),
        origin=taken.__getitem__,
    )
