"""Kafka transactions of one scorer slot: outputs, events and offsets become visible together, once.

librdkafka does not know KIP-890 yet, so an answer that leaves open whether a transaction ended is never asked
again in this process: it raises Fatal, the process ends, and the next one's init_transactions settles it.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition

from schemas.envelope import Envelope
from schemas.topics import MAX_RECORD_BYTES, TOPIC_OF
from services.deployer import metrics
from services.deployer.scoring import Output
from shared.errors import Fatal
from shared.settings import KafkaSettings

_TRANSACTIONAL_ID = "modelbus.scorer"
_OPENING_SECONDS = 60.0
_POLL_EVERY_RECORDS = 2000


@dataclass(frozen=True, kw_only=True)
class Package:
    """What one transaction holds; `group` is the consumer's metadata at the time the input was consumed."""

    outputs: Sequence[Output]
    envelopes: Sequence[Envelope]
    offsets: Sequence[TopicPartition]
    group: Any


class Transactions:
    """At most one transaction in flight; its end is awaited with `settle`."""

    def __init__(self, kafka: KafkaSettings, *, slot: int, timeout_seconds: int) -> None:
        self._producer = Producer(
            kafka.librdkafka()
            | {
                "transactional.id": f"{_TRANSACTIONAL_ID}.{slot}",
                "transaction.timeout.ms": timeout_seconds * 1000,
                "partitioner": "murmur2_random",  # as the relay and Java clients: one model, one partition
                "linger.ms": 5,
                "batch.num.messages": 10_000,
                "batch.size": 512 * 1024,
                "message.max.bytes": MAX_RECORD_BYTES,
                "compression.type": "none",  # any client can read it: lz4 is an extra for many
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 256 * 1024,
            }
        )
        self._timeout_seconds = timeout_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._in_flight: Future[bool] | None = None

    def open(self) -> None:
        """Fence the slot's process before this one and end what it left open.

        Raises:
            Fatal: the coordinator did not answer in time.
        """
        try:
            self._producer.init_transactions(_OPENING_SECONDS)
        except KafkaException as error:
            raise Fatal(f"init_transactions: {error}") from error

    def submit(self, package: Package) -> None:
        """Begin a transaction, produce into it, and let it commit beside the caller's next work."""
        if self._in_flight is not None:
            raise AssertionError("the transaction before has not been settled")
        try:
            self._producer.begin_transaction()
            self._produce(package)
        except KafkaException as error:
            raise Fatal(f"produce: {error}") from error
        self._in_flight = self._thread.submit(self._commit, package)

    def settle(self) -> bool:
        """Wait for the transaction in flight: True when it committed, or when there was none, False when it aborted.

        Raises:
            Fatal: it is not known, or the producer is fenced.
        """
        if self._in_flight is None:
            return True
        in_flight, self._in_flight = self._in_flight, None
        return in_flight.result()

    def close(self) -> None:
        """End the commit thread; call after `settle`."""
        self._thread.shutdown()

    def _produce(self, package: Package) -> None:
        for count, (topic, partition, key, value, headers) in enumerate(package.outputs, 1):
            self._put(topic, partition, key, value, headers)
            if count % _POLL_EVERY_RECORDS == 0:
                self._producer.poll(0)
        for said in package.envelopes:
            self._put(
                TOPIC_OF[type(said.event)].name, None, said.event.key.encode(), said.event.encode(), said.headers()
            )

    def _put(self, topic: str, partition: int | None, key: bytes, value: bytes, headers: Any) -> None:
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, **where)
                return
            except BufferError:
                self._producer.poll(0.05)

    def _commit(self, package: Package) -> bool:
        began = time.perf_counter()
        try:
            self._producer.send_offsets_to_transaction(list(package.offsets), package.group, self._timeout_seconds)
            self._producer.commit_transaction(self._timeout_seconds)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise Fatal(f"commit: {error}") from error
            self._abort(error)
            return False
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - began)
        return True

    def _abort(self, cause: KafkaException) -> None:
        try:
            self._producer.abort_transaction(self._timeout_seconds)
        except KafkaException as error:
            raise Fatal(f"abort after {cause}: {error}") from error
        metrics.ABORTED.inc()
