"""When to try again what failed."""

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 10.0


class Patience:
    """Waits twice as long after each failure in a row, up to ten seconds; time is any clock's seconds.

    >>> patience = Patience()
    >>> patience.failed(100.0), patience.failed(100.1), patience.ready(100.2), patience.ready(100.4)
    (0.1, 0.2, False, True)
    """

    def __init__(self) -> None:
        self._failures = 0
        self._not_before = float("-inf")

    @property
    def failing(self) -> bool:
        return self._failures > 0

    def ready(self, now: float) -> bool:
        return now >= self._not_before

    def failed(self, now: float) -> float:
        """Returns for how many seconds to wait."""
        seconds: float = min(FIRST_SECONDS * 2**self._failures, LONGEST_SECONDS)
        self._failures += 1
        self._not_before = now + seconds
        return seconds

    def succeeded(self) -> None:
        self._failures, self._not_before = 0, float("-inf")
