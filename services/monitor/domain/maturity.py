"""How many labelled events have matured, by the hour of their event time."""

import numpy as np
from msgspec import Struct, field
from numpy.typing import ArrayLike

HOUR = 3_600_000_000  # microseconds


class Matured(Struct):
    """Counts by hour since 1970.

    >>> counts = Matured()
    >>> counts.add([0, 1, HOUR, 5 * HOUR])
    >>> counts.within(0, 2 * HOUR), counts.within(HOUR, 9 * HOUR)
    (3, 2)
    """

    hours: dict[int, int] = field(default_factory=dict)

    def add(self, times: ArrayLike) -> None:
        hours, counts = np.unique(np.asarray(times, dtype=np.int64) // HOUR, return_counts=True)
        for hour, count in zip(hours.tolist(), counts.tolist(), strict=True):
            self.hours[hour] = self.hours.get(hour, 0) + count

    def within(self, start: int, end: int) -> int:
        """Events of the hours from `start` (whole) until `end`."""
        return sum(count for hour, count in self.hours.items() if start <= hour * HOUR < end)

    def forget(self, before: int) -> None:
        self.hours = {hour: count for hour, count in self.hours.items() if hour * HOUR >= before}
