"""How long a scorer rests before it answers again what was refused: one refusal is usual, one that stays is not."""

import math
from dataclasses import dataclass

_WITHIN_SECONDS = 10.0
_FIRST_SECONDS = 0.1
_MOST_SECONDS = 1.0


@dataclass
class Backoff:
    """A refusal alone, as when partitions move, costs no rest; each that follows within ten seconds doubles it.

    >>> backoff = Backoff()
    >>> [backoff.seconds(now) for now in (0.0, 0.1, 0.3, 20.0)]
    [0.0, 0.1, 0.2, 0.0]
    """

    _refusals: int = 0
    _last: float = -math.inf

    def seconds(self, now: float) -> float:
        """After a refusal at `now`, in seconds of any clock that goes on: to rest so long."""
        self._refusals = self._refusals + 1 if now - self._last < _WITHIN_SECONDS else 1
        self._last = now
        return min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** (self._refusals - 2)) if self._refusals > 1 else 0.0
