"""Event time of a stream: the highest plausible event time seen. Times are integer microseconds since 1970, UTC."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct, field

CONFIRMATIONS = 10  # so many records beyond a leap make it plausible
PATIENCE = 5  # so many ordinary records meanwhile make it implausible
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return round(time.timestamp() * 1_000_000)


def moment(time: int) -> datetime:
    """The inverse of `micros`, in UTC.

    >>> micros(moment(1_357_000_000_000_001))
    1357000000000001
    """
    return _EPOCH + timedelta(microseconds=time)


def length(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // timedelta(microseconds=1)


class Suspect(Struct, array_like=True, frozen=True):
    """A record ahead of its time, and how many ordinary records had been seen when it came."""

    time: int
    id: str
    seen_at: int


class Clock(Struct, kw_only=True):
    """Moves at once by up to `leap`; over a larger gap only when several records confirm it.

    A record further ahead is a suspect. When CONFIRMATIONS distinct suspects are together, the clock moves to the
    lowest of the highest CONFIRMATIONS: a gap of days is crossed, and the one record from 2099 among them stays a
    suspect. A suspect that PATIENCE ordinary records have followed was a mistake, and is counted as implausible: a
    device with a wrong calendar does not move time as long as it sends less than a tenth of the records.

    >>> clock = Clock(leap=10)
    >>> clock.advance((time, str(time)) for time in (*range(100, 110), 9_999, 110))
    >>> clock.high, clock.implausible, len(clock.suspects)
    (110, 0, 1)
    >>> clock.advance((time, str(time)) for time in range(111, 116))
    >>> clock.high, clock.implausible, len(clock.suspects)
    (115, 1, 0)
    """

    leap: int
    high: int | None = None
    suspects: list[Suspect] = field(default_factory=list)
    ordinary: int = 0
    implausible: int = 0

    def advance(self, records: Iterable[tuple[int, str]]) -> None:
        """See records (time, id) in their canonical order."""
        for time, event_id in records:
            if self.high is None or time > self.high + self.leap:
                self._suspect(time, event_id)
                continue
            self.ordinary += 1
            self.high = max(self.high, time)
            if self.suspects:
                self._absorb()
                self._expire()

    def _suspect(self, time: int, id: str) -> None:
        if all(known.id != id for known in self.suspects):
            self.suspects.append(Suspect(time, id, self.ordinary))
        if len(self.suspects) >= CONFIRMATIONS:
            self.high = sorted(suspect.time for suspect in self.suspects)[-CONFIRMATIONS]
            self._absorb()

    def _absorb(self) -> None:
        """Suspects that the clock has come near are suspects no more, and may bring it nearer to others."""
        assert self.high is not None
        for suspect in sorted(self.suspects, key=lambda each: each.time):
            if suspect.time > self.high + self.leap:
                break
            self.high = max(self.high, suspect.time)
            self.ordinary += 1
            self.suspects.remove(suspect)

    def _expire(self) -> None:
        kept = [suspect for suspect in self.suspects if self.ordinary - suspect.seen_at < PATIENCE]
        self.implausible += len(self.suspects) - len(kept)
        self.suspects = kept


class Checkpoint(Struct, array_like=True, frozen=True):
    """The clock, and the accepted data offsets that it had been read from."""

    offsets: dict[int, int]
    high: int


def answered_until(checkpoints: list[Checkpoint], answered: dict[int, int]) -> int | None:
    """How far a model's answers have come, in event time; None when they are behind all checkpoints.

    `answered` is input partition → next input offset without an answer; partitions that are not in it are not served.

    >>> marks = [Checkpoint({0: 5, 1: 5}, 100), Checkpoint({0: 9, 1: 5}, 200)]
    >>> answered_until(marks, {0: 7, 1: 5}), answered_until(marks, {0: 9}), answered_until(marks, {0: 1})
    (100, 200, None)
    """
    reached = [mark for mark in checkpoints if all(at >= mark.offsets.get(p, 0) for p, at in answered.items())]
    return reached[-1].high if reached else None
