"""Event time of a stream: the highest plausible event time seen. Times are integer microseconds since 1970, UTC."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from msgspec import Struct, field

CONFIRMATIONS = 10  # so many records beyond a leap make it plausible,
WITNESSES = 3  # when they come from so many entities
PATIENCE = 5  # so many ordinary records meanwhile make it implausible
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return round(time.timestamp() * 1_000_000)


def micros_of(times: Iterable[datetime]) -> list[int]:
    """Of many, as `micros` of each."""
    found: list[int] = np.rint(np.array([time.timestamp() for time in times]) * 1_000_000).astype(np.int64).tolist()
    return found


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
    entity: str = ""


class Clock(Struct, kw_only=True):
    """Moves at once by up to `leap`; over a larger gap only when several records of several entities confirm it.

    A record further ahead is a suspect. The clock moves to the highest time that CONFIRMATIONS distinct suspects of
    WITNESSES entities have reached: a gap of days is crossed, and the one record from 2099 among them stays a suspect.
    A suspect that PATIENCE ordinary records have followed was a mistake, and is counted as implausible. So one or two
    devices with a wrong calendar do not move time over a leap, however much they send. What is not kept out: steps
    within `leap`, which any device may make one after the other; three devices that are wrong together; and, while the
    stream has shown fewer than WITNESSES entities, the word of those it has. The price: a gap after which fewer than
    WITNESSES of a stream's entities come back is not crossed until another one does.

    Memory: no more than CONFIRMATIONS suspects of an entity are kept, the newest; the others count as implausible.

    >>> clock = Clock(leap=10)
    >>> clock.advance((time, str(time), f"d{time % 3}") for time in (*range(100, 110), 9_999, 110))
    >>> clock.high, clock.implausible, len(clock.suspects)
    (110, 0, 1)
    >>> clock.advance((time, str(time), f"d{time % 3}") for time in range(111, 116))
    >>> clock.high, clock.implausible, len(clock.suspects)
    (115, 1, 0)
    """

    leap: int
    high: int | None = None
    suspects: list[Suspect] = field(default_factory=list)
    entities: list[str] = field(default_factory=list)  # the first WITNESSES that were seen
    ordinary: int = 0
    implausible: int = 0

    def steady(self, times: Sequence[int]) -> bool:
        """See records none of which needs a second look, whatever their order; False if some does: `advance` then."""
        if self.high is None or self.suspects or len(self.entities) < WITNESSES or max(times) > self.high + self.leap:
            return False
        self.ordinary += len(times)
        self.high = max(self.high, *times)
        return True

    def advance(self, records: Iterable[tuple[int, str, str]]) -> None:
        """See records (time, id, entity) in their canonical order."""
        for time, event_id, entity in records:
            if len(self.entities) < WITNESSES and entity not in self.entities:
                self.entities.append(entity)
            if self.high is None or time > self.high + self.leap:
                self._suspect(Suspect(time, event_id, self.ordinary, entity))
                continue
            self.ordinary += 1
            self.high = max(self.high, time)
            if self.suspects:
                self._absorb()
                self._expire()

    def _suspect(self, suspect: Suspect) -> None:
        if any(known.id == suspect.id for known in self.suspects):
            return
        self.suspects.append(suspect)
        mine = [known for known in self.suspects if known.entity == suspect.entity]
        if len(mine) > CONFIRMATIONS:
            self.suspects.remove(mine[0])
            self.implausible += 1
        confirmed = self._confirmed()
        if confirmed is not None:
            self.high = confirmed
            self._absorb()

    def _confirmed(self) -> int | None:
        """The highest time that enough suspects of enough entities have reached."""
        witnesses: set[str] = set()
        for count, suspect in enumerate(sorted(self.suspects, key=lambda each: each.time, reverse=True), 1):
            witnesses.add(suspect.entity)
            if count >= CONFIRMATIONS and len(witnesses) >= len(self.entities):
                return suspect.time
        return None

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

    `answered` is input partition → next input offset without an answer; partitions that are not in it do not matter.

    >>> marks = [Checkpoint({0: 5, 1: 5}, 100), Checkpoint({0: 9, 1: 5}, 200)]
    >>> answered_until(marks, {0: 7, 1: 5}), answered_until(marks, {0: 9}), answered_until(marks, {0: 1})
    (100, 200, None)
    """
    reached = [mark for mark in checkpoints if all(at >= mark.offsets.get(p, 0) for p, at in answered.items())]
    return reached[-1].high if reached else None
