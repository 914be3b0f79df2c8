"""Which data events of a stream have labels, to count those that have matured. Times are microseconds of event time.

Leaner than the join of a model: of an event its time is known, and whether its label has come. A label and its event
may come in either order, an id more than once. Beyond a cap ids are sampled by a hash, and count for as many.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from services.monitor.domain.join import FURTHEST
from services.monitor.domain.sampling import kept

_SWEEPS = 4  # in the time that an event is waited for
Times = dict[str, int]  # by id


class Room(Struct, kw_only=True):
    """One partition's."""

    waiting: Times = field(default_factory=dict)  # events without a label
    joined: Times = field(default_factory=dict)  # events with one
    early: Times = field(default_factory=dict)  # labels without an event


class Labelled(Struct, kw_only=True):
    """Bounded by time and by `bound`.

    >>> events = Labelled()
    >>> events.label(0, ["early"], [60])
    >>> events.serve(0, ["early", "late", "never"], [10, 20, 30])
    >>> events.label(0, ["late", "late"], [70, 80])
    >>> events.mature(115, 100, 10).tolist(), events.mature(120, 100, 10).tolist()
    ([10], [20])
    """

    rooms: dict[int, Room] = field(default_factory=dict)
    level: int = 0  # one in 2**level ids is kept
    immature: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # times of events with a label
    until: int | None = None  # before then all have matured
    swept: int | None = None

    def serve(self, partition: int, ids: Sequence[str], times: Sequence[int]) -> None:
        """Events; of repeated ones the first stands."""
        room = self._room(partition)
        waiting, joined, early = room.waiting, room.joined, room.early
        fresh = {
            name: time
            for name, time in zip(reversed(ids), reversed(times), strict=True)
            if name not in waiting and name not in joined
        }
        if self.level:
            fresh = {name: time for name, time in fresh.items() if kept(name, self.level)}
        found = {name: fresh.pop(name) for name in fresh.keys() & early.keys()} if early else {}
        for name in found:
            del early[name]
        waiting.update(fresh)
        self._join(room, found)

    def label(self, partition: int, ids: Sequence[str], times: Sequence[int]) -> None:
        """Labels that became known at these times; what is labelled again is no more than labelled."""
        room = self._room(partition)
        take, joined, early, found = room.waiting.pop, room.joined, room.early, Times()
        for name, known in zip(ids, times, strict=True):
            time = take(name, None)
            if time is not None:
                found[name] = time
            elif name not in joined and name not in found and kept(name, self.level):
                early.setdefault(name, known)
        self._join(room, found)

    def _join(self, room: Room, found: Times) -> None:
        if found:
            room.joined.update(found)
            self.immature = np.append(self.immature, np.fromiter(found.values(), np.int64, len(found)))

    def _room(self, partition: int) -> Room:
        return self.rooms.setdefault(partition, Room())

    def mature(self, clock: int, delay: int, grace: int) -> NDArray[np.int64]:
        """Times of the events that have matured with a label, each once; of what is sampled as often as it counts."""
        self.until = clock - delay
        over = self.immature <= self.until
        matured, self.immature = self.immature[over], self.immature[~over]
        if self.swept is None or clock - self.swept > (delay + grace) // _SWEEPS:
            self._sweep(self.until, grace, clock + FURTHEST)
            self.swept = clock
        return np.repeat(matured, 1 << self.level)

    def _sweep(self, until: int, grace: int, horizon: int) -> None:
        """Forget what has matured or is too late; what is dated too far ahead is taken as of the horizon."""
        for room in self.rooms.values():
            room.joined = _between(room.joined, until, horizon)
            room.waiting = _between(room.waiting, until - grace, horizon)
            room.early = _between(room.early, until - grace, horizon)
        self.immature = np.minimum(self.immature, horizon)

    def bound(self, events: int, early: int, least: int = 0) -> None:
        """Keep about so many events, sampling by id, and so many labels without one, dropping the oldest."""
        held = sum(len(room.waiting) + len(room.joined) for room in self.rooms.values())
        if held > events:
            self.sample(self.level + 1)
        elif self.level > least and held < events // 4:
            self.level -= 1
        if sum(len(room.early) for room in self.rooms.values()) > early + early // 8:
            self._drop(early // max(1, len(self.rooms)))

    def sample(self, level: int) -> None:
        """Keep no more than one in 2**level."""
        if level <= self.level:
            return
        self.level = level
        for room in self.rooms.values():
            for each in (room.waiting, room.joined, room.early):
                for name in [name for name in each if not kept(name, self.level)]:
                    del each[name]
        times = [time for room in self.rooms.values() for time in room.joined.values()]
        self.immature = np.array([time for time in times if self.until is None or time > self.until], np.int64)

    def _drop(self, share: int) -> None:
        for room in self.rooms.values():
            newest = sorted(room.early.items(), key=lambda each: each[1])[max(0, len(room.early) - share) :]
            room.early = dict(newest)


def _between(times: Times, after: int, horizon: int) -> Times:
    kept = {name: time for name, time in times.items() if time > after}
    if max(kept.values(), default=horizon) <= horizon:
        return kept
    return {name: min(time, horizon) for name, time in kept.items()}
