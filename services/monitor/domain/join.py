"""The join of predictions with their labels, by event id within a partition. Times are microseconds of event time.

Conservation, at every instant: predictions = joined + pending + expired + sampled_out, over distinct event ids.
A prediction is joined when it has its label; it has matured when the clock has passed its event time by the label's
delay; only matured ones are measured, because labels that come early are a biased sample.

What settles is measured at once, but nothing leaves before `expire`, which is called when a window closes, or before
when the join is `crowded`; the window names those places too. So what was joined and what had expired by then follows
from the records below the window's vectors, however they were read.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from msgspec import Struct, field

from services.monitor.domain.due import Due
from services.monitor.domain.entries import Entry, Score, Settled
from services.monitor.domain.sampling import kept

FURTHEST = 7 * 86_400_000_000  # an event time further ahead of the clock is taken as a week ahead, so that it ends
Place = tuple[int, str]  # partition, id
_CANONICAL = attrgetter("time", "partition", "id")
_STALE = 1000  # ids that left otherwise than by time, and so many more as there are entries, may stand in the index


class Counts(Struct, kw_only=True):
    """Distinct predictions by fate, and what labels did."""

    predictions: int = 0
    joined: int = 0
    expired: int = 0
    sampled_out: int = 0
    repeated: int = 0  # the same event served again while it was waiting
    labels_repeated: int = 0  # the same again
    labels_conflicting: int = 0  # another value; the first one stands
    labels_orphaned: int = 0  # no prediction came, or it had left

    @property
    def pending(self) -> int:
        return self.predictions - self.joined - self.expired - self.sampled_out


class Join(Struct, kw_only=True, dict=True):
    """The waiting room of one model (or, with data events in the place of predictions, of a stream).

    Beside the entries, and made anew from them, stand the ids in the order in which they can come to be over, so that
    each is looked at about twice, however long it waits.
    """

    entries: dict[int, dict[str, Entry]] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    level: int = 0  # one in 2**level ids is kept

    def __post_init__(self) -> None:
        self._held = sum(entry.served is not None and not entry.settled for _, _, entry in self._all())
        self._horizon: int | None = None  # nothing is dated beyond it but what stands in `_far`
        self._delay: int | None = None  # by which it was last looked what has matured
        self._index()

    def _index(self) -> None:
        self._maturing, self._expiring = Due(), Due()
        self._over: int | None = None  # what is dated until then is not among what is maturing
        self._completed: list[Place] = []  # of that, since it was last looked
        self._settled: list[Place] = []  # since it was last cleared
        self._far: list[Place] = []
        for partition, name, entry in self._all():
            if entry.settled:
                self._settled.append((partition, name))
            else:
                self._enter(partition, (entry.time,), (name,))

    def _enter(self, partition: int, times: Sequence[int], names: Sequence[str]) -> None:
        self._maturing.add(partition, times, names)
        if self._horizon is None or max(times, default=0) > self._horizon:
            self._far += [(partition, name) for name in names]

    def serve(self, id: str, partition: int, time: int, score: Score) -> Entry | None:
        """A champion or canary answered. Returns the entry if new."""
        return self.serve_all(partition, [(id, time, score)])[0]

    def serve_all(self, partition: int, answers: Iterable[tuple[str, int, Score]]) -> list[Entry | None]:
        """Ids, times and scores of one partition, in order; of each the entry if new."""
        room, counts = self._room(partition), self.counts
        found, fresh, times = list[Entry | None](), list[str](), list[int]()
        for name, time, score in answers:
            entry = room.get(name)
            if entry is not None and entry.served is not None:
                counts.repeated += 1
                found.append(None)
                continue
            counts.predictions += 1
            if entry is None:
                if not kept(name, self.level):
                    counts.sampled_out += 1
                    found.append(None)
                    continue
                entry = room[name] = Entry(time, partition, None, score)
            elif entry.time != time:
                entry.time = time
            entry.served = score
            fresh.append(name)
            times.append(time)
            if entry.label is not None:
                self._complete(name, entry)
            found.append(entry)
        self._held += len(fresh)
        self._enter(partition, times, fresh)
        return found

    def pass_over(self, count: int) -> None:
        """So many were served that are sampled out unread."""
        self.counts.predictions += count
        self.counts.sampled_out += count

    def sample(self, level: int) -> None:
        """Keep no more than one in 2**level."""
        while self.level < level:
            self.level += 1
            self._evict()

    def shadow(self, id: str, partition: int, time: int, score: Score) -> Entry | None:
        """The other arm's score of the event; returns the entry if this is the first."""
        room = self._room(partition)
        entry = room.get(id) or self._made(room, id, partition, time)
        if entry is None or entry.shadow is not None:
            return None
        entry.shadow = score
        return entry

    def label(self, id: str, partition: int, time: int, value: float) -> None:
        """A label; the first one stands."""
        self.label_all(partition, [(id, time, value)])

    def label_all(self, partition: int, labels: Iterable[tuple[str, int, float]]) -> None:
        """Ids, times and values of one partition, in order."""
        room, counts = self._room(partition), self.counts
        for name, time, value in labels:
            entry = room.get(name) or self._made(room, name, partition, time)
            if entry is None:
                continue
            if entry.label is None:
                entry.label = value
                if entry.served is not None:
                    self._complete(name, entry)
            elif entry.label == value:
                counts.labels_repeated += 1
            else:
                counts.labels_conflicting += 1

    def _complete(self, id: str, entry: Entry) -> None:
        """It has both. What is not over yet stands among what is maturing."""
        self.counts.joined += 1
        if self._over is not None and entry.time <= self._over:
            self._completed.append((entry.partition, id))

    def _room(self, partition: int) -> dict[str, Entry]:
        return self.entries.setdefault(partition, {})

    def _made(self, room: dict[str, Entry], id: str, partition: int, time: int) -> Entry | None:
        """The entry of an event that was not heard of; None when its id is sampled out."""
        if not kept(id, self.level):
            return None
        entry = room[id] = Entry(time, partition)
        self._enter(partition, (time,), (id,))
        return entry

    def settle(self, clock: int, delay: int) -> list[Settled]:
        """What has matured with its label, each once, in canonical order (time, partition, id)."""
        if self._delay is not None and delay > self._delay:  # what had come to be over waits again
            self._index()
        self._delay, over = delay, clock - delay
        self._over = over if self._over is None else max(self._over, over)
        places, self._completed = [*self._maturing.take(over), *self._completed], []
        settled = []
        for (partition, name), entry in self._found(places):
            if entry.settled or entry.time + delay > clock:
                continue
            if entry.served is None or entry.label is None:
                self._expiring.add(partition, (entry.time,), (name,))
                continue
            settled.append(entry.matured(name))
            entry.settled = True
            self._held -= 1
            self._settled.append((partition, name))
        return sorted(settled, key=_CANONICAL)

    def expire(self, clock: int, delay: int, grace: int) -> list[Settled]:
        """Let go of what has settled, which is returned, and of what has no label at maturity and `grace`.

        What is dated too far ahead is taken as no further than FURTHEST.
        """
        places, self._settled = self._settled, []
        settled = [entry.matured(name) for (_, name), entry in self._found(places)]
        for partition, name in places:
            self.entries[partition].pop(name, None)
        until = clock - delay - grace
        for (partition, name), entry in self._found(self._expiring.take(until)):
            if entry.time > until:
                self._expiring.add(partition, (entry.time,), (name,))
                continue
            if entry.served is not None and entry.label is not None:  # joined, and not yet measured
                self._completed.append((partition, name))
                continue
            self._held -= entry.served is not None
            self.counts.expired += entry.served is not None
            self.counts.labels_orphaned += entry.served is None and entry.label is not None
            del self.entries[partition][name]
        self._draw_near(clock + FURTHEST)
        return sorted(settled, key=_CANONICAL)

    def crowded(self, until: int, pending: int) -> bool:
        """Whether served predictions are more than `pending`, and a quarter as many settled or of before `until`."""
        if self._held + len(self._settled) <= pending:
            return False
        return len(self._settled) + self._expiring.count(until) > pending // 4

    def _draw_near(self, horizon: int) -> None:
        places, self._far, self._horizon = self._far, [], horizon
        for (partition, name), entry in self._found(places):
            if entry.time > horizon:
                entry.time = horizon
                self._maturing.add(partition, (horizon,), (name,))

    def mature(self, clock: int, delay: int, grace: int) -> list[Settled]:
        """Both at once."""
        settled = self.settle(clock, delay)
        self.expire(clock, delay, grace)
        return settled

    def _found(self, places: Iterable[Place]) -> Iterator[tuple[Place, Entry]]:
        """What still waits."""
        for partition, name in places:
            entry = self.entries[partition].get(name)
            if entry is not None:
                yield (partition, name), entry

    def bound(self, pending: int, unserved: int, least: int = 0) -> None:
        """Keep at most so many that wait, sampling by id, and about so many others, dropping the oldest.

        What comes is sampled at the `least` level already. Called between rounds, so that the outcome does not depend
        on the order within one.
        """
        while self._held > pending:
            self.sample(self.level + 1)
        if self.level > least and self._held < pending // 4:
            self.level -= 1
        entries = sum(len(room) for room in self.entries.values())
        if (many := entries - len(self._settled) - self._held - unserved) > unserved // 8:
            self._drop(many)
        if len(self._maturing) + len(self._expiring) + len(self._far) > 3 * entries + _STALE:
            self._index()

    def _drop(self, many: int) -> None:
        """The oldest that nobody served."""
        others = sorted((entry.time, partition, name) for partition, name, entry in self._all() if entry.served is None)
        for _, partition, name in others[:many]:
            self.counts.labels_orphaned += self.entries[partition].pop(name).label is not None

    def _evict(self) -> None:
        """Sample out what the new level does not keep; an entry that has its label stays counted as joined."""
        for partition, name, entry in list(self._all()):
            if not entry.settled and not kept(name, self.level):
                del self.entries[partition][name]
                self._held -= entry.served is not None
                self.counts.sampled_out += entry.served is not None and entry.label is None

    def _all(self) -> Iterator[tuple[int, str, Entry]]:
        return ((partition, name, entry) for partition, room in self.entries.items() for name, entry in room.items())
