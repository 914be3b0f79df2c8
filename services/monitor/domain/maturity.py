"""How many labelled events have matured, by the hour of their event time."""

from collections.abc import Iterable

from msgspec import Struct, field

HOUR = 3_600_000_000  # microseconds


class Matured(Struct):
    """Counts by hour since 1970.

    >>> counts = Matured()
    >>> counts.add([0, 1, HOUR, 5 * HOUR])
    >>> counts.within(0, 2 * HOUR), counts.within(HOUR, 9 * HOUR)
    (3, 2)
    """

    hours: dict[int, int] = field(default_factory=dict)

    def add(self, times: Iterable[int]) -> None:
        for time in times:
            self.hours[time // HOUR] = self.hours.get(time // HOUR, 0) + 1

    def within(self, start: int, end: int) -> int:
        """Events of the hours from `start` (whole) until `end`."""
        return sum(count for hour, count in self.hours.items() if start <= hour * HOUR < end)

    def forget(self, before: int) -> None:
        self.hours = {hour: count for hour, count in self.hours.items() if hour * HOUR >= before}
