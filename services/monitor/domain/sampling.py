"""Which ids are taken in where not all can be, and how few: a monitor that falls behind measures a sample.

One in 2**level ids is kept, by a hash, so that a prediction, its data and its label are kept or left out together, and
what is kept at a level is among what is kept below it. All that is left out is counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

MOST = 6
_LOOK_SECONDS = 2.0
_CALM_SECONDS = 60.0
_MEASURED = 2.0  # times as much work an event that is measured is beyond one that is left out
_SPARE = 1.05  # of what a larger sample would take


def kept(name: str, level: int) -> bool:
    """Whether an id is taken in.

    >>> sum(kept(f"e{number}", 2) for number in range(1000))
    249
    """
    return level == 0 or not crc32(name.encode()) & ((1 << level) - 1)


def kept_of(names: Iterable[str], level: int) -> list[bool]:
    """Of many, as `kept` of each; "" is kept at every level.

    >>> kept_of(["e1", "e2", "e6", ""], 2)
    [False, False, True, True]
    """
    others = (1 << level) - 1
    return [not code & others for code in map(crc32, map(str.encode, names))]


@dataclass(kw_only=True)
class Pace:
    """How a stream's reader keeps up with what is written, by a clock on the wall; `backlog` is what it may be behind.

    A backlog that shrinks is read to its end without leaving anything out: only where more comes than goes is a sample
    the answer, as large as what is done in that time would do for all that comes. It is widened again where a backlog
    shrinks fast enough for it, or when there has been none for a minute.

    >>> pace = Pace(backlog=1000)
    >>> [pace.level(0, at, written, 0) for at, written in ((0.0, 9000), (1.0, 9000), (2.0, 9500))]
    [0, 0, 2]
    >>> [pace.level(1, at, 9500, 9500) for at in (4.0, 62.0, 64.0)]
    [1, 1, 0]
    """

    backlog: int

    def __post_init__(self) -> None:
        self._seen: tuple[float, int, int] | None = None
        self._calm: float | None = None

    def level(self, level: int, now: float, written: int, taken: int) -> int:
        """The next; so many predictions were `written` by `now` (s), and `taken`."""
        seen = self._seen
        if seen is not None and now - seen[0] < _LOOK_SECONDS:
            return level
        self._seen = now, written, taken
        if written - taken <= self.backlog:
            self._calm = now if self._calm is None else self._calm
            if level and now - self._calm >= _CALM_SECONDS:
                self._calm = now
                return level - 1
            return level
        self._calm = None
        if seen is None:
            return level
        came, went = written - seen[1], taken - seen[2]
        affordable = _work(level) * went / max(1, came)
        if went < came:
            return min(MOST, level + (1 if _work(level + 1) <= affordable else 2))
        return level - 1 if level and _work(level - 1) * _SPARE <= affordable else level


def _work(level: int) -> float:
    """Of an event at a level, where one that is left out is 1."""
    return 1 + _MEASURED / (1 << level)
