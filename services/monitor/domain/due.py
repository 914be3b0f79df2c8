"""Names by the time from which on they are to be looked at; in chunks, so that few are looked at before."""

from collections.abc import Sequence
from sys import maxsize

_CHUNK = 500


class _Chunk:
    """Times and their names, in no order."""

    __slots__ = ("least", "names", "times")

    def __init__(self) -> None:
        self.least = maxsize
        self.times: list[int] = []
        self.names: list[str] = []

    def take(self, until: int) -> list[str]:
        """The names that are due; the others stay."""
        taken = [name for time, name in zip(self.times, self.names, strict=True) if time <= until]
        self.names = [name for time, name in zip(self.times, self.names, strict=True) if time > until]
        self.times = [time for time in self.times if time > until]
        self.least = min(self.times, default=maxsize)
        return taken


class Due:
    """A name may stand here more than once; who takes it asks what it is now.

    >>> due = Due()
    >>> for time, name in ((3, "c"), (1, "a"), (2, "b")):
    ...     due.add(0, [time], [name])
    >>> due.take(2), due.take(2), due.take(3)
    ([(0, 'a'), (0, 'b')], [], [(0, 'c')])
    """

    def __init__(self) -> None:
        self._open: dict[int, _Chunk] = {}  # by partition
        self._full: list[tuple[int, _Chunk]] = []

    def __len__(self) -> int:
        return sum(len(chunk.names) for chunk in self._open.values()) + sum(len(chunk.names) for _, chunk in self._full)

    def add(self, partition: int, times: Sequence[int], names: Sequence[str]) -> None:
        """Names (n,) of one partition, by their times (n,)."""
        chunk = self._open.get(partition)
        if chunk is None:
            chunk = self._open[partition] = _Chunk()
        chunk.times += times
        chunk.names += names
        chunk.least = min(chunk.least, *times) if times else chunk.least

    def count(self, until: int) -> int:
        """How many names' time has come."""
        chunks = (*(chunk for _, chunk in self._full), *self._open.values())
        return sum(time <= until for chunk in chunks if chunk.least <= until for time in chunk.times)

    def take(self, until: int) -> list[tuple[int, str]]:
        """Partitions and names whose time has come."""
        taken = []
        for partition, chunk in (*self._full, *self._open.items()):
            if chunk.least <= until:
                taken += [(partition, name) for name in chunk.take(until)]
        self._sort_out()
        return taken

    def _sort_out(self) -> None:
        """What became small joins the open chunk of its partition; what became large is closed."""
        full = self._full
        self._full = [(partition, chunk) for partition, chunk in full if len(chunk.names) > _CHUNK // 4]
        for partition, chunk in full:
            if len(chunk.names) <= _CHUNK // 4:
                self.add(partition, chunk.times, chunk.names)
        for partition, chunk in list(self._open.items()):
            if len(chunk.names) >= _CHUNK:
                self._full.append((partition, self._open.pop(partition)))
