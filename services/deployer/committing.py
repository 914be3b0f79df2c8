"""What a batch leaves behind, and how two ways of committing it have one face: hand over, settle, drain at last."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition

from schemas.envelope import Envelope
from schemas.topics import MAX_RECORD_BYTES, TOPIC_OF
from services.deployer.places import Where
from services.deployer.predictions import Header, Output
from shared.errors import Fatal
from shared.settings import KafkaSettings

_BY_KEY = -1  # the client's own mark for: by key
# send_offsets_to_transaction forgets its time-out when the group's coordinator has gone: librdkafka #5456 and #5511
_TIMEOUTS_TO_SETTLE = 2
_MOST_IN_FLIGHT = 2  # one that commits, one that is being answered
PRODUCER = {
    "partitioner": "murmur2_random",  # as the relay and Java clients: one model, one partition
    "linger.ms": 5,
    # a transaction that begins while the broker still ends the one before it is told to try again, the usual 100 ms
    # later; it takes the broker two or three
    "retry.backoff.ms": 2,
    "batch.num.messages": 10_000,
    "batch.size": 512 * 1024,
    "message.max.bytes": MAX_RECORD_BYTES,
    "compression.type": "none",  # any client can read it: lz4 is an extra for many
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 256 * 1024,
}


class Package:
    """What a batch comes to; in a transaction all of it is committed at once.

    Whoever answers adds outputs, part by part, and ends it. A commit beside that takes them as they come; once it does,
    they are produced by the thread that adds, each part with those before it: two threads that both work for each
    record wait for each other's turn at Python's lock. So whoever has more to answer waits, in `end`, until it is
    taken. What has ended before is produced by who takes it.

    `group` is the consumer's metadata at the time the input was consumed: when the partitions have moved since, a
    transaction is refused by it. Without a transaction the consumer itself commits, and it is None.

    `fence` is where the partitions stood that switch in this package, under the revisions they switch to. Behind a
    `full` one more waits to be answered; its offsets are sent while it is handed over. `answered_at` is when the last
    answer was there, by `time.perf_counter`.
    """

    answered_at: float

    def __init__(
        self,
        *,
        envelopes: Sequence[Envelope],
        offsets: Sequence[TopicPartition],
        fence: Sequence[TopicPartition] = (),
        group: Any = None,
        full: bool = False,
    ) -> None:
        self.envelopes, self.offsets, self.fence, self.group, self.full = envelopes, offsets, fence, group, full
        self._outputs: list[Iterable[Output | None]] = []
        self._produced = 0
        self._produce: Callable[[Iterable[Output]], None] | None = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._taken = threading.Event()  # or it never will be
        self._over = threading.Event()  # it has ended, or the client has refused

    def add(self, outputs: Iterable[Output | None]) -> None:
        """Answer some more; waits while the client's queue is full. What the client refuses, `take` raises.

        They are gone through when they are produced, and again when all is produced again; None is no record.
        """
        with self._lock:
            self._outputs.append(outputs)
            self._catch_up()

    def end(self, seconds: float = 0) -> None:
        """Nothing more is added; waits so long to be taken, and then produces what was not."""
        self.answered_at = time.perf_counter()
        self._taken.wait(seconds)
        with self._lock:
            self._over.set()
            self._catch_up()

    def give_up(self) -> None:
        """Nobody takes it any more."""
        self._taken.set()

    def wait(self) -> None:
        """Until it has ended."""
        self._over.wait()

    def take(
        self,
        produce: Callable[[Iterable[Output]], None],
        seconds: float | None = None,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> bool:
        """Let all outputs, from the first on, be produced until it ends; False when it has not in so many seconds.

        Then nothing more is produced until it is taken again, again from the first on: give up what was produced.
        `meanwhile` is called once outputs may be produced; the seconds count from its end.

        Raises:
            KafkaException: as `produce` did, for whichever thread, or `meanwhile`; nothing more is produced. So with
                whatever else they raised.
        """
        with self._lock:
            self._produced, self._produce = 0, produce
        self._taken.set()
        try:
            meanwhile()
        except BaseException:
            with self._lock:
                self._produce = None
            raise
        self._over.wait(seconds)
        with self._lock:  # it may have ended since, or be about to: what is produced at the end is not waited for twice
            if ended := self._over.is_set():
                self._catch_up()
            self._produce = None
        if self._error is not None:
            raise self._error
        return ended

    def _catch_up(self) -> None:
        if self._produce is None:
            return
        fresh, self._produced = self._outputs[self._produced :], len(self._outputs)
        try:
            self._produce(filter(None, chain.from_iterable(fresh)))
        except BaseException as error:  # nothing of it may be committed, whatever it is
            self._error, self._produce = error, None
            self._over.set()
            if not isinstance(error, KafkaException):
                raise


class Commits(ABC):
    """One package after the other; the end of each is awaited with `settle`. `timeout_seconds` is each request's.

    After one that is not known to be committed none is, until all in flight are settled: they were consumed after it.
    Before partitions are given away, `settle` all and then `drain`.
    """

    def __init__(self, kafka: KafkaSettings, settings: dict[str, Any], *, timeout_seconds: int) -> None:
        self.timeout_seconds = timeout_seconds
        self.producer = Producer(kafka.librdkafka() | PRODUCER | settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._in_flight: deque[Future[bool]] = deque()
        self._refusing = False

    @abstractmethod
    def open(self) -> None:
        """Be ready for the first package; raises Fatal."""

    @abstractmethod
    def commit(self, package: Package) -> bool:
        """Take and commit; False when all since the last commit is to be answered again; raises Fatal if unknown."""

    def submit(self, package: Package) -> None:
        """Let a package be committed beside the caller's work; what is added to it meanwhile is produced by `add`."""
        if len(self._in_flight) == _MOST_IN_FLIGHT:
            raise AssertionError("too many packages have not been settled")
        committing = self._thread.submit(self._commit_in_turn, package)
        committing.add_done_callback(lambda _: package.give_up())
        self._in_flight.append(committing)

    def commit_here(self, package: Package) -> None:
        """Commit what has ended, by the caller's thread and with nothing in flight: no other has to be woken for it.

        Nobody gives up a commit that comes to no end, as `settle` does; who watches the caller must.
        """
        assert not self._in_flight
        committed = Future[bool]()
        committed.set_result(self._commit_in_turn(package))
        self._in_flight.append(committed)

    def _commit_in_turn(self, package: Package) -> bool:
        if self._refusing:
            return False
        self._refusing = True  # and so it stays where this raises
        self._refusing = not self.commit(package)
        return not self._refusing

    def settle(self) -> bool:
        """Wait for the oldest package in flight: True when it is committed (delivered, without transactions).

        Raises:
            Fatal: it is not known, or the producer is fenced.
        """
        committed = self.awaited(self._in_flight.popleft())
        if not self._in_flight:
            self._refusing = False
        return committed

    def drain(self) -> bool:
        """Do what settled packages have left to be done; False when that is refused. Raises Fatal."""
        return True

    def forget(self, wheres: Iterable[Where]) -> None:  # noqa: B027  # a transaction leaves nothing to be done
        """Do no more for partitions that are lost; call after `settle`."""

    def close(self) -> None:
        """End the thread; call after `drain`."""
        self._thread.shutdown()

    def awaited(self, future: Future[bool]) -> bool:
        """What comes of it; raises Fatal when nothing does."""
        limit = _TIMEOUTS_TO_SETTLE * self.timeout_seconds
        try:
            return future.result(limit)
        except TimeoutError:
            raise Fatal(f"a commit came to no end in {limit} s") from None

    def put_outputs(self, outputs: Iterable[Output]) -> None:
        """Into the client's queue; waits while that is full. Raises KafkaException."""
        produce = self.producer.produce
        for output in outputs:
            try:
                produce(*output)
            except BufferError:
                self._put_late(output)

    def put_envelopes(self, envelopes: Iterable[Envelope]) -> None:
        """Likewise, each keyed by what it is about."""
        for said in envelopes:
            event, headers = said.event, list[Header](said.headers())
            topic = TOPIC_OF[type(event)].name
            self._put_late((topic, event.encode(), event.key.encode(), _BY_KEY, None, None, 0, headers))

    def _put_late(self, output: Output) -> None:
        while True:
            try:
                self.producer.produce(*output)
                return
            except BufferError:
                self.producer.poll(0.05)
