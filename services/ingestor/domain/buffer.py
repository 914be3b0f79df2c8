"""Records of one table that wait for a commit, and the places in their partitions between which they lie."""

from collections.abc import Mapping

from services.ingestor.domain.rows import Taken


def astray(starts: Mapping[int, int], committed: Mapping[int, int]) -> set[int]:
    """Partitions whose rows must be dropped: they do not start where the table's transactions end.

    >>> astray({0: 10, 1: 5}, {0: 10, 1: 9})
    {1}
    """
    return {partition for partition, start in starts.items() if committed.get(partition, 0) != start}


class Buffer:
    """Grows by whole records, in the order of their partitions; a partition takes part once it has its place."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.bytes = 0
        self.oldest: float | None = None
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
        before = len(self.taken)
        self.taken = [record for record in self.taken if record.partition != partition]
        self.bytes = sum(len(record.value or b"") for record in self.taken)
        if not self.taken:
            self.oldest = None
        return before - len(self.taken)

    def add(self, record: Taken, now: float) -> bool:
        """Take a record; False when its partition has no place, or it lies before it: it is in the table already."""
        if record.offset < self._nexts.get(record.partition, record.offset + 1):
            return False
        self._nexts[record.partition] = record.offset + 1
        self.taken.append(record)
        self.bytes += len(record.value or b"")
        self.oldest = now if self.oldest is None else self.oldest
        return True

    def due(self, now: float, *, rows: int, bytes: int, seconds: float) -> bool:
        """Whether it is time to commit."""
        if self.oldest is None:
            return False
        return len(self.taken) >= rows or self.bytes >= bytes or now - self.oldest >= seconds

    def starts(self) -> dict[int, int]:
        """Partition → the offset that its waiting records start at; partitions with waiting records only."""
        return {partition: start for partition, start in self._starts.items() if start != self._nexts[partition]}

    def nexts(self) -> dict[int, int]:
        """Partition → the offset after its last waiting record; the same partitions."""
        return {partition: self._nexts[partition] for partition in self.starts()}

    def places(self) -> dict[int, int]:
        """Partition → the offset to be taken next; all partitions."""
        return dict(self._nexts)

    def committed(self) -> None:
        """Start anew behind what waited."""
        self._starts = dict(self._nexts)
        self.taken, self.bytes, self.oldest = [], 0, None
