"""The data-plane loop of a scorer: consume, answer, and commit answers with offsets; never wait to fill a batch.

Every accepted record is answered once: outputs, offsets and the fence (the revisions a partition is served under, as
metadata of its offset) commit together; whoever owns the partition next reads them and serves nothing older.
"""

import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from schemas.envelope import Envelope
from schemas.topics import DATA
from services.deployer import metrics
from services.deployer.committing import Commits, Package
from services.deployer.consuming import Batch, by_partition, columns_of, consumer_of
from services.deployer.deliveries import Deliveries
from services.deployer.domain.backoff import Backoff
from services.deployer.domain.pace import Tally
from services.deployer.domain.portion import Portion
from services.deployer.measurements import measurements
from services.deployer.places import Place, Record, Where, read_places
from services.deployer.sampling import BatchSpans
from services.deployer.scoring import Scored, StreamScorer
from services.deployer.serving import Known
from services.deployer.settings import ScorerSettings
from services.deployer.switching import Switch, announce, switches_of
from services.deployer.transactions import Transactions
from services.deployer.view import View
from shared.errors import Fatal
from shared.reading import take
from shared.settings import KafkaSettings

_POLL_SECONDS = 0.05
_MEASURE_EVERY_SECONDS = 1.0
_PARTS = 5  # of a full batch; what is the same for each part costs a tenth of a part of 500 records
Guarantee = Literal["exactly_once", "at_least_once"]
GUARANTEES: tuple[Guarantee, ...] = ("exactly_once", "at_least_once")
log = logging.getLogger(__name__)


class Answered(NamedTuple):
    """A batch on its way to its commit."""

    parts: list[Scored]
    asides: list[Envelope]  # what did not load, and how both arms scored


class Stream:
    """One scorer's consumer and commits, for the streams of one guarantee; `run` belongs to one thread.

    The scorers of both guarantees are members of one group: a stream that goes over to the other keeps its places.
    """

    def __init__(
        self, *, kafka: KafkaSettings, settings: ScorerSettings, slot: int, view: View, guarantee: Guarantee
    ) -> None:
        self.name = f"stream {guarantee}"
        self.beat = time.monotonic()
        self.assigned = False
        self._settings = settings
        self._portion = Portion(most=math.ceil(settings.batch_records / _PARTS))
        self._view = view
        self._guarantee = guarantee
        self._consumer = consumer_of(kafka, settings, f"modelbus-scorer-{slot}-{guarantee}")
        seconds = settings.transaction_timeout_seconds
        self._commits: Commits = (
            Transactions(kafka, slot=slot, timeout_seconds=seconds)
            if guarantee == "exactly_once"
            else Deliveries(kafka, consumer=self._consumer, timeout_seconds=seconds)
        )
        self._subscribed: frozenset[str] = frozenset()
        self._places: dict[Where, Place] = {}
        self._held: set[Where] = set()
        self._scorers: dict[str, StreamScorer] = {}
        self._known = Known()
        self._in_flight: deque[Answered] = deque()
        self._tally = Tally()
        self._aborted = False
        self._backoff = Backoff()
        self._spans = BatchSpans()
        self._measured: set[Where] = set()
        self._measured_at = 0.0

    def run(self, stopped: Callable[[], bool]) -> None:
        """Serve until told to stop.

        Raises:
            Fatal: going on could break the guarantee; the process must end.
        """
        self._commits.open()
        while not stopped() and not self._view.complete:
            self._rest()
        while not stopped():
            self.beat = time.monotonic()
            self._subscribe()
            self._turn()
            self._measure()
        self._drain()
        self._consumer.close()
        self._commits.close()

    def _rest(self) -> None:
        self.beat = time.monotonic()
        time.sleep(_POLL_SECONDS)

    def _subscribe(self) -> None:
        """Follow the streams there are; none anew while a model of it is awaited, which others may have loaded."""
        known = self._view.known
        declared = {DATA.of(each): each for each, spec in known.streams.items() if spec.guarantee == self._guarantee}
        topics = frozenset(
            topic for topic, stream in declared.items() if topic in self._subscribed or not known.awaits(stream)
        )
        self.assigned = self.assigned or not topics  # there is none that it could serve yet: ready for what will be
        if topics != self._subscribed and not topics:
            self._consumer.unsubscribe()
        elif topics != self._subscribed:
            self._consumer.subscribe(
                sorted(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        self._subscribed = topics

    def _turn(self) -> None:
        """Answer one batch; a full one, behind which more wait, while the transaction before it commits.

        Another waits for that transaction, and takes along what comes meanwhile: alone, it would only begin a
        transaction that the records behind it have to wait for.
        """
        most = min(self._settings.batch_records, _PARTS * self._portion.size)
        messages = self._consume(_POLL_SECONDS, most)
        if not messages:
            self._drain()
        elif len(messages) < most and self._in_flight:
            self._settle()
            messages += self._consume(0, most - len(messages))
        batch = self._sorted_out(messages)
        if not self._aborted:
            self._answer(batch, full=len(messages) == most)
        self._settle(but=1)
        if self._aborted:
            self._settle()
            self._rewind()

    def _consume(self, seconds: float, most: int) -> list[Record]:
        """What is there, after waiting so long for the first record. Rebalances happen in here."""
        if not self._subscribed and not self._places:
            self._rest()
            return []
        return take(self._consumer, most, seconds)

    def _sorted_out(self, messages: Sequence[Record]) -> Batch:
        """By partition, without what was fetched before its partition moved."""
        found = by_partition(messages)
        if held := self._held & found.keys():
            raise Fatal(f"{sorted(held)}: got records of partitions that are held back")
        places = self._places
        fresh = {where: _from(places[where].position, records) for where, records in found.items() if where in places}
        return {where: records for where, records in fresh.items() if records}

    # -- answering

    def _answer(self, batch: Batch, *, full: bool) -> None:
        """Answer a batch, and switch every partition that is behind what is known.

        Its commit begins meanwhile, where that takes long: a transaction, or a delivery beside the next batch. Behind a
        `full` one more waits, and would be scored beside the thread that commits, which had this to produce.
        """
        exact = self._guarantee == "exactly_once"  # asking takes as long as answering a record
        group = self._consumer.consumer_group_metadata() if exact else None
        known = self._view.known
        self._let_go(known)
        switches = switches_of(known, self._serving_places())
        asides = [*self._asides(), *measurements(self._tally, known)]
        fence = self._switch(switches)
        offsets = self._advance(batch, switches)
        if not offsets and not asides:
            return
        envelopes = [*announce(switches, known), *asides]
        package = Package(envelopes=envelopes, offsets=offsets, fence=fence, group=group, full=full)
        if beside := exact or full:
            self._commits.submit(package)
        parts = list[Scored]()
        with self._spans.around(batch), metrics.BATCH_SECONDS.time():
            for part in self._score(batch, known):
                for outputs in part.outputs:
                    package.add(outputs)
                parts.append(part)
                self.beat = time.monotonic()
        package.end(self._settings.transaction_timeout_seconds if full else 0)
        self._in_flight.append(Answered(parts, asides))
        if not beside:
            self._commits.commit_here(package)
            self._settle()  # it is counted now, and not when the next waits to be answered
        self.beat = time.monotonic()

    def _serving_places(self) -> dict[Where, Place]:
        return {where: place for where, place in self._places.items() if where not in self._held}

    def _score(self, batch: Batch, known: Known) -> Iterator[Scored]:
        """Part by part, so that the first can be on their way while the last are scored."""
        if known is not self._known:
            self._scorers, self._known = {}, known
        streams: dict[str, list[Record]] = defaultdict(list)
        for (topic, _), records in batch.items():
            streams[DATA.owner(topic) or ""] += records
        for stream, records in streams.items():
            if stream not in self._scorers:
                self._scorers[stream] = StreamScorer(known.streams[stream], known)
            first = 0
            while first < len(records):
                part, began = records[first : first + self._portion.size], time.perf_counter()
                scored = self._scorers[stream].score(columns_of(part))
                self._portion.took(time.perf_counter() - began)
                yield scored
                first += len(part)

    def _switch(self, switches: Iterable[Switch]) -> list[TopicPartition]:
        """Serve under newer revisions; returns the places as they are then, to be committed as a fence."""
        switched = {switch.where for switch in switches}
        for switch in switches:
            self._places[switch.where].revisions[switch.model] = switch.revision
        return [self._places[where].to_commit(where) for where in switched]

    def _advance(self, batch: Batch, switches: Iterable[Switch]) -> list[TopicPartition]:
        """Move the places past this batch; returns what is to be committed."""
        for where, records in batch.items():
            self._places[where].position = records[-1].offset() + 1
        touched = dict.fromkeys((*batch, *(switch.where for switch in switches)))
        return [self._places[where].to_commit(where) for where in touched]

    def _asides(self) -> list[Envelope]:
        """What did not load since, and what an abort gave back; said by one of a scorer's two streams."""
        found: list[Envelope] = []
        while self._guarantee == "exactly_once" and not self._view.asides.empty():
            found.append(self._view.asides.get())
        return found

    # -- committing

    def _settle(self, but: int = 0) -> None:
        """Wait for the transactions in flight, but for so many, and count or give back what each held."""
        while len(self._in_flight) > but:
            committed = self._commits.settle()
            parts, asides = self._in_flight.popleft()
            if committed:
                for part in parts:
                    part.count()
                    for compared in part.compared:
                        self._tally.add(compared)
            else:
                self._aborted = True
                for aside in asides:
                    self._view.asides.put(aside)

    def _drain(self) -> None:
        """Settle, and leave nothing to be done: when nothing comes, and before partitions go."""
        self._settle()
        if not self._commits.drain():
            self._aborted = True

    def _rewind(self) -> None:
        """After an abort: every owned partition goes back to what is committed.

        What is refused again and again may stay so, as a right or a limit of the broker does: it is asked seldom then.
        """
        now = time.monotonic()
        ends = now + self._backoff.seconds(now)
        while time.monotonic() < ends:
            self._rest()
        self._places = read_places(self._consumer, list(self._places))
        for (topic, partition), place in self._places.items():
            self._consumer.seek(TopicPartition(topic, partition, place.position))
        known = self._view.known
        self._hold(where for where, place in self._places.items() if _is_ahead(known, where, place))
        self._aborted = False

    # -- owning partitions

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        wheres = [(each.topic, each.partition) for each in partitions]
        places = read_places(consumer, wheres)
        self._places |= places
        consumer.incremental_assign([TopicPartition(*where, places[where].position) for where in wheres])
        consumer.resume(partitions)  # one that was held when it left is still paused: the client forgets no pause
        self._hold(where for where in wheres if _must_hold(self._view.known, where, places[where]))
        self.assigned = True
        log.info("assigned %s", {f"{topic}[{partition}]": place for (topic, partition), place in places.items()})

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drain()
        self._leave(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Somebody else may own them: the broker refuses a transaction in flight, and nothing more is said of them."""
        self._settle()
        self._commits.forget([(each.topic, each.partition) for each in partitions])
        self._leave(consumer, partitions)

    def _leave(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._places.pop((each.topic, each.partition), None)
            self._held.discard((each.topic, each.partition))
        consumer.incremental_unassign(partitions)
        log.info("revoked %s", [f"{each.topic}[{each.partition}]" for each in partitions])

    def _hold(self, wheres: Iterable[Where]) -> None:
        """Read nothing of partitions that this scorer cannot serve yet."""
        held = set(wheres)
        if held:
            self._consumer.pause([TopicPartition(*where) for where in held])
            log.warning("held back: %s", sorted(held))
        self._held |= held

    def _let_go(self, known: Known) -> None:
        free = {where for where in self._held if not _must_hold(known, where, self._places[where])}
        if free:
            self._consumer.resume([TopicPartition(*where) for where in free])
        self._held -= free

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured_at < _MEASURE_EVERY_SECONDS:
            return
        self._measured_at = now
        for topic, partition in self._measured - self._places.keys():
            metrics.LAG.remove(DATA.owner(topic), partition)
        self._measured = set(self._places)
        for (topic, partition), place in self._places.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            metrics.LAG.labels(DATA.owner(topic), partition).set(max(0, high - place.position))


def _from(position: int, records: list[Record]) -> list[Record]:
    """Records of one partition, in its order, from a position on."""
    if records[0].offset() >= position:
        return records
    return [record for record in records if record.offset() >= position]


def _must_hold(known: Known, where: Where, place: Place) -> bool:
    """Whether a partition that is newly given is not read yet; those that are read already go on."""
    return _is_ahead(known, where, place) or known.awaits(DATA.owner(where[0]) or "")


def _is_ahead(known: Known, where: Where, place: Place) -> bool:
    return place.is_ahead_of(known.revisions_of(DATA.owner(where[0]) or ""))
