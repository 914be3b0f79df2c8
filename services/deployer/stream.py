"""The data-plane loop of a scorer: consume, answer, and commit answers with offsets; never wait to fill a batch.

Every accepted record is answered once: outputs, offsets and the fence (the revisions a partition is served under, as
metadata of its offset) commit together; whoever owns the partition next reads them and serves nothing older.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from schemas.envelope import Envelope
from schemas.topics import DATA
from services.deployer import metrics
from services.deployer.places import Place, Record, Where, read_places
from services.deployer.sampling import BatchSpans
from services.deployer.scoring import Input, Scored, StreamScorer
from services.deployer.serving import Known
from services.deployer.settings import ScorerSettings
from services.deployer.switching import Switch, announce, switches_of
from services.deployer.transactions import Package, Transactions
from services.deployer.view import View
from shared.errors import Fatal
from shared.settings import KafkaSettings

_GROUP = "modelbus.scorer"
_POLL_SECONDS = 0.05
_MEASURE_EVERY_SECONDS = 1.0
log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A batch that is answered but not yet produced."""

    package: Package
    scored: Scored
    failures: list[Envelope]


class Stream:
    """One scorer's consumer and transactions; `run` belongs to one thread."""

    def __init__(self, *, kafka: KafkaSettings, settings: ScorerSettings, slot: int, view: View) -> None:
        self.beat = time.monotonic()
        self.assigned = False
        self._settings = settings
        self._view = view
        self._transactions = Transactions(kafka, slot=slot, timeout_seconds=settings.transaction_timeout_seconds)
        self._consumer = _consumer(kafka, settings, slot)
        self._subscribed: frozenset[str] = frozenset()
        self._places: dict[Where, Place] = {}
        self._held: set[Where] = set()
        self._scorers: dict[str, StreamScorer] = {}
        self._known = Known()
        self._in_flight: Prepared | None = None
        self._aborted = False
        self._spans = BatchSpans()
        self._measured_at = 0.0

    def run(self, stopped: Callable[[], bool]) -> None:
        """Serve until told to stop.

        Raises:
            Fatal: going on could break the guarantee; the process must end.
        """
        self._transactions.open()
        while not stopped() and not self._view.complete:
            self._rest()
        while not stopped():
            self.beat = time.monotonic()
            self._subscribe()
            self._turn()
            self._measure()
        self._settle()
        self._consumer.close()
        self._transactions.close()

    def _rest(self) -> None:
        self.beat = time.monotonic()
        time.sleep(_POLL_SECONDS)

    def _subscribe(self) -> None:
        """Follow the streams there are."""
        topics = frozenset(DATA.of(stream) for stream in self._view.known.streams)
        self.assigned = self.assigned or not topics  # nothing is declared yet: ready for what will be
        if topics != self._subscribed:
            self._consumer.subscribe(
                sorted(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            self._subscribed = topics

    def _turn(self) -> None:
        """Answer one batch while the transaction of the one before commits."""
        messages = self._consume()
        prepared = None if self._aborted else self._prepare(messages)
        self._settle()
        if self._aborted:
            self._give_back(prepared)
            self._rewind()
        elif prepared is not None:
            self._transactions.submit(prepared.package)
            self._in_flight = prepared

    def _consume(self) -> list[Record]:
        """What is there, up to a batch; waits for the first record only. Rebalances happen in here."""
        if not self._subscribed:
            self._rest()
            return []
        first = self._consumer.poll(_POLL_SECONDS)
        rest = self._consumer.consume(self._settings.batch_records - 1, 0) if first is not None else []
        return [message for message in (first, *rest) if message is not None and self._expected(message)]

    def _expected(self, message: Record) -> bool:
        """False for errors that pass, and for what was fetched before its partition moved."""
        if (error := message.error()) is not None:
            if error.fatal():
                raise Fatal(f"{message.topic()}: {error}")
            log.warning("%s: %s", message.topic(), error)
            return False
        where = message.topic(), message.partition()
        if where in self._held:
            raise Fatal(f"{where}: got a record of a partition that is held back")
        place = self._places.get(where)
        return place is not None and message.offset() >= place.position

    # -- answering

    def _prepare(self, messages: Sequence[Record]) -> Prepared | None:
        """Answer a batch, and switch every partition that is behind what is known; None when there is nothing."""
        group = self._consumer.consumer_group_metadata()  # of now: if the partitions move, the commit is refused
        known = self._view.known
        self._let_go(known)
        switches = switches_of(known, self._serving_places())
        scored = self._answer(messages, known)
        failures = self._failures()
        offsets = self._advance(messages, switches)
        if not offsets and not failures:
            return None
        envelopes = [*announce(switches, known), *failures]
        package = Package(outputs=scored.outputs, envelopes=envelopes, offsets=offsets, group=group)
        return Prepared(package, scored, failures)

    def _serving_places(self) -> dict[Where, Place]:
        return {where: place for where, place in self._places.items() if where not in self._held}

    def _answer(self, messages: Sequence[Record], known: Known) -> Scored:
        if known is not self._known:
            self._scorers, self._known = {}, known
        streams: dict[str, list[Input]] = defaultdict(list)
        for message in messages:
            source = Input(message.partition(), message.offset(), message.key(), message.value())
            streams[DATA.owner(message.topic()) or ""].append(source)
        scored = Scored()
        with self._spans.around(messages), metrics.BATCH_SECONDS.time():
            for stream, inputs in streams.items():
                if stream not in self._scorers:
                    self._scorers[stream] = StreamScorer(known.streams[stream], known)
                scored.add(self._scorers[stream].score(inputs))
        return scored

    def _advance(self, messages: Sequence[Record], switches: Iterable[Switch]) -> list[TopicPartition]:
        """Move the places past this batch; returns what is to be committed."""
        for switch in switches:
            self._places[switch.where].revisions[switch.model] = switch.revision
        ends = {(message.topic(), message.partition()): message.offset() + 1 for message in messages}
        for where, end in ends.items():
            self._places[where].position = end
        touched = {**ends, **{switch.where: 0 for switch in switches}}
        return [self._places[where].to_commit(where) for where in touched]

    def _failures(self) -> list[Envelope]:
        found = []
        while not self._view.failures.empty():
            found.append(self._view.failures.get())
        return found

    # -- committing

    def _settle(self) -> None:
        """Wait for the transaction in flight, and count or give back what it held."""
        committed = self._transactions.settle()
        in_flight, self._in_flight = self._in_flight, None
        if not committed:
            self._aborted = True
            self._give_back(in_flight)
        elif in_flight is not None:
            in_flight.scored.count()

    def _give_back(self, prepared: Prepared | None) -> None:
        for failure in prepared.failures if prepared else ():
            self._view.failures.put(failure)

    def _rewind(self) -> None:
        """After an abort: every owned partition goes back to what is committed."""
        self._places = read_places(self._consumer, list(self._places))
        for (topic, partition), place in self._places.items():
            self._consumer.seek(TopicPartition(topic, partition, place.position))
        self._hold(self._places)
        self._aborted = False

    # -- owning partitions

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        wheres = [(each.topic, each.partition) for each in partitions]
        places = read_places(consumer, wheres)
        self._places |= places
        consumer.incremental_assign([TopicPartition(*where, places[where].position) for where in wheres])
        self._hold(places)
        self.assigned = True
        log.info("assigned %s", {f"{topic}[{partition}]": place for (topic, partition), place in places.items()})

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Also when they are lost: then the broker refuses the transaction in flight, and it is aborted."""
        self._settle()
        for each in partitions:
            self._places.pop((each.topic, each.partition), None)
            self._held.discard((each.topic, each.partition))
        consumer.incremental_unassign(partitions)
        log.info("revoked %s", [f"{each.topic}[{each.partition}]" for each in partitions])

    def _hold(self, places: dict[Where, Place]) -> None:
        """Read nothing of partitions that this scorer cannot serve yet; those it reads already go on."""
        ahead = {where for where, place in places.items() if _must_hold(self._view.known, where, place)}
        if ahead:
            self._consumer.pause([TopicPartition(*where) for where in ahead])
            log.warning("held back: %s", sorted(ahead))
        self._held |= ahead

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
        metrics.LAG.clear()  # of partitions that went
        for (topic, partition), place in self._places.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            metrics.LAG.labels(DATA.owner(topic), partition).set(max(0, high - place.position))


def _must_hold(known: Known, where: Where, place: Place) -> bool:
    stream = DATA.owner(where[0]) or ""
    return place.is_ahead_of(known.revisions_of(stream)) or known.awaits(stream)


def _consumer(kafka: KafkaSettings, settings: ScorerSettings, slot: int) -> Consumer:
    return Consumer(
        kafka.librdkafka()
        | {
            "group.id": _GROUP,
            "group.protocol": "consumer",
            "client.id": f"modelbus-scorer-{slot}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",  # of offsets too: none is read while its transaction is open
            "fetch.wait.max.ms": 50,
            "queued.min.messages": max(10_000, settings.batch_records * 4),
        }
    )
