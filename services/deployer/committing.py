"""What a batch leaves behind, and how two ways of committing it have the same face: submit, settle, drain at last."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from confluent_kafka import Producer, TopicPartition

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


@dataclass(frozen=True, kw_only=True)
class Package:
    """What a batch comes to; in a transaction all of it is committed at once.

    `outputs` come while the batch is answered, part by part, and end with None: the commit begins before they do.

    `group` is the consumer's metadata at the time the input was consumed: when the partitions have moved since, a
    transaction is refused by it. Without a transaction the consumer itself commits, and it is None.

    `fence` is where the partitions stood that switch in this package, under the revisions they switch to.
    """

    outputs: SimpleQueue[Sequence[Output] | None] = field(default_factory=SimpleQueue)
    envelopes: Sequence[Envelope]
    offsets: Sequence[TopicPartition]
    fence: Sequence[TopicPartition] = field(default_factory=list)
    group: Any = None


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
        """Produce and commit; False when all since the last commit is to be answered again; raises Fatal if unknown."""

    def submit(self, package: Package) -> None:
        """Let a package be produced and committed beside the caller's work, as its outputs come."""
        if len(self._in_flight) == _MOST_IN_FLIGHT:
            raise AssertionError("too many packages have not been settled")
        self._in_flight.append(self._thread.submit(self._commit_in_turn, package))

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
