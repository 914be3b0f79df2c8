"""How fast event time may pass: at most at the pace, and not at all while something holds it."""

from collections import Counter
from datetime import datetime, timedelta

_LONGEST_STEP_SECONDS = 0.25  # a feeder that was kept waiting does not make up for it in one burst
_UNLIMITED = timedelta(days=30)


class Pace:
    """Event time up to which records may be published; `seconds` are of a monotonic wall clock.

    >>> start = datetime(2013, 1, 1)
    >>> pace = Pace(start, timedelta(days=1), seconds=0.0)
    >>> pace.move(0.1, held=None), pace.move(0.2, held="training"), pace.allowed - start
    (None, None, datetime.timedelta(seconds=8640))
    >>> round(pace.held_seconds["training"], 3)
    0.1
    """

    def __init__(self, start: datetime, pace: timedelta | None, *, seconds: float) -> None:
        self.allowed = start
        self.held_seconds: Counter[str] = Counter()
        self._pace = pace or _UNLIMITED
        self._last = seconds

    def move(self, seconds: float, *, held: str | None) -> None:
        """Let the time since the last call pass, or count it as held for this reason."""
        step, self._last = seconds - self._last, seconds
        if held is None:
            self.allowed += self._pace * min(step, _LONGEST_STEP_SECONDS)
        else:
            self.held_seconds[held] += step  # type: ignore[assignment]  # a Counter adds up floats as well
