"""The ceilings, as child processes: loops that consume, write constant records of a prediction's size, and commit.

Tuned as the scorer is: the same client settings, the same batches, the transaction of a large batch beside the next.
Without transactions they are the loop that everybody writes: each batch's offsets are committed once it is delivered;
or, `--seldom`, as seldom as a scorer's.
They decode nothing, score nothing, route nothing, count nothing.
"""

import argparse
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.topics import DATA, PREDICTIONS
from services.deployer.committing import PRODUCER
from services.deployer.consuming import CONSUMER
from services.deployer.deliveries import OFFSETS_EVERY_SECONDS
from services.deployer.settings import ScorerSettings
from shared.settings import KafkaSettings
from tests.scoring_world import ROOT

_WORTH_OVERLAPPING = 500  # records; as long to produce as a transaction takes to commit
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"modelbus.record.prediction.v1"),
    ("ce_dataschema", b"modelbus:schemas/record.prediction/v1.1.json"),
    ("ce_source", b"modelbus/deployer/scorer"),
    ("content-type", b"application/json"),
    ("ce_id", b"e100000@bench:1"),
    ("ce_subject", b"machine-1000"),
    ("ce_time", b"2013-01-01T00:00:00Z"),
]


def group_of(stream: str, guarantee: str) -> str:
    """The group that a bare loop commits its offsets to."""
    return f"bare.{stream}.{guarantee}"


class Bare:
    """A bare loop as a child process."""

    def __init__(
        self, stream: str, *, guarantee: str = "exactly_once", value_bytes: int = 214, seldom: bool = False
    ) -> None:
        self.group = group_of(stream, guarantee)
        arguments = ["--stream", stream, "--guarantee", guarantee, "--value-bytes", str(value_bytes)]
        arguments += ["--seldom"] if seldom else []
        self.process = subprocess.Popen([sys.executable, "-m", "tests.bench.bare", *arguments], cwd=ROOT)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class _Loop:
    def __init__(self, stream: str, guarantee: str, value_bytes: int, *, seldom: bool) -> None:
        kafka, self._batch = KafkaSettings(), ScorerSettings(http_port=0).batch_records
        self._transactional = guarantee == "exactly_once"
        self._record, self._topic = b"x" * value_bytes, PREDICTIONS.of(f"bare-{stream}")
        sending = {"transactional.id": f"bare.{stream}"} if self._transactional else {"enable.idempotence": True}
        self._producer = Producer(kafka.librdkafka() | PRODUCER | sending)
        group = {"group.id": group_of(stream, guarantee), "queued.min.messages": 4 * self._batch}
        self._consumer = Consumer(kafka.librdkafka() | CONSUMER | group)
        self._consumer.subscribe([DATA.of(stream)])
        self._delivered: dict[int, TopicPartition] = {}  # what is not committed yet
        self._committed_at, self._every_seconds = 0.0, OFFSETS_EVERY_SECONDS if seldom else 0.0
        self._thread, self._in_flight = ThreadPoolExecutor(1), Future[None]()
        self._in_flight.set_result(None)
        if self._transactional:
            self._producer.init_transactions(30)

    def run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            messages = self._take(0.05, self._batch)
            if len(messages) < _WORTH_OVERLAPPING:
                self._in_flight.result()
                messages += self._take(0, self._batch - len(messages))
            self._in_flight.result()
            if messages:
                self._write(messages)
        self._in_flight.result()
        self._commit()
        self._consumer.close()

    def _take(self, seconds: float, most: int) -> list[Any]:
        first = self._consumer.poll(seconds)
        return [] if first is None else [first, *self._consumer.consume(most - 1, 0)]

    def _write(self, messages: list[Any]) -> None:
        """This thread produces, as a scorer's does; the other commits.

        A large batch is produced while its offsets are sent. A small one after that: records that ask to join a
        transaction, while the broker still ends the one before, ask again 20 ms later.
        """
        ends = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(messages[0].topic(), partition, end) for partition, end in ends.items()]
        if not self._transactional:
            self._produce(messages)
            self._in_flight = self._thread.submit(self._deliver, offsets)
            return
        self._producer.begin_transaction()
        sent = self._thread.submit(self._send, offsets, self._consumer.consumer_group_metadata())
        if len(messages) < _WORTH_OVERLAPPING:
            sent.result()
        self._produce(messages)
        sent.result()
        self._in_flight = self._thread.submit(self._producer.commit_transaction, 10)

    def _produce(self, messages: list[Any]) -> None:
        produce, topic, record = self._producer.produce, self._topic, self._record
        for message in messages:
            produce(topic, record, message.key(), message.partition(), None, None, 0, HEADERS)

    def _send(self, offsets: list[TopicPartition], group: Any) -> None:
        self._producer.send_offsets_to_transaction(offsets, group, 10)

    def _deliver(self, offsets: list[TopicPartition]) -> None:
        self._producer.flush(10)
        self._delivered |= {each.partition: each for each in offsets}
        if time.monotonic() > self._committed_at + self._every_seconds:
            self._commit()

    def _commit(self) -> None:
        if self._delivered:
            self._consumer.commit(offsets=list(self._delivered.values()), asynchronous=False)
        self._delivered, self._committed_at = {}, time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bare", description=__doc__)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--guarantee", choices=["exactly_once", "at_least_once"], required=True)
    parser.add_argument("--value-bytes", type=int, required=True)
    parser.add_argument("--seldom", action="store_true")
    arguments, stopped = parser.parse_args(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    _Loop(arguments.stream, arguments.guarantee, arguments.value_bytes, seldom=arguments.seldom).run(stopped)


if __name__ == "__main__":
    main()
