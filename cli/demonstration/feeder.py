"""Publishes departures and landings in event-time order, as any producer would."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from confluent_kafka import Producer

from cli.demonstration.holds import Holds
from cli.demonstration.pace import Pace
from cli.demonstration.plan import Plan
from cli.demonstration.reading import quietly
from examples.flights.departures import Record
from schemas.topics import DATA, LABELS
from shared.settings import KafkaSettings

_TICK_SECONDS = 0.02
_FLUSH_SECONDS = 60.0
_FAMILIES = {"data": DATA, "label": LABELS}


class FeederFailed(Exception):
    """A record was not acknowledged."""


class Feeder:
    """A thread; `published`, `at` and `pace` may be looked at from others."""

    def __init__(self, *, plan: Plan, stream: str, kafka: KafkaSettings, holds: Holds) -> None:
        self.published: Counter[str] = Counter()  # records by kind
        self.at = plan.start
        self.pace = Pace(plan.start, plan.pace, seconds=time.monotonic())
        self.holding: str | None = None
        self.failure: Exception | None = None
        self._plan = plan
        self._holds = holds
        self._topics = {kind: family.of(stream) for kind, family in _FAMILIES.items()}
        self._producer = Producer(
            quietly(kafka)
            | {
                "client.id": "modelbus-demo",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "compression.type": "lz4",
            }
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; what is published is acknowledged before this returns."""
        self._stopped.set()
        self._thread.join()

    @property
    def done(self) -> bool:
        """Whether everything up to the plan's end is acknowledged.

        Raises:
            FeederFailed: something was not.
        """
        if self.failure is not None:
            raise FeederFailed("the feeder ended early") from self.failure
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._feed(self._plan.records(self._plan.start, self._plan.until))
            if self._producer.flush(_FLUSH_SECONDS):
                raise FeederFailed(f"not acknowledged in {_FLUSH_SECONDS:.0f} s")
        except Exception as error:  # told by `done`, in the thread that asks
            self.failure = error

    def _feed(self, records: Iterator[Record]) -> None:
        for record in records:
            if not self._wait_for(record.time):
                return
            self._publish(record)
        self.at = self._plan.until

    def _wait_for(self, moment: datetime) -> bool:
        """False when stopped first."""
        while self.pace.allowed < moment:
            self._producer.poll(0)
            if self._stopped.wait(_TICK_SECONDS):
                return False
            now = time.monotonic()
            self.holding = self._holds.reason(now)
            self.pace.move(now, held=self.holding)
        return not self._stopped.is_set()

    def _publish(self, record: Record) -> None:
        topic = self._topics[record.kind]
        while True:
            try:
                self._producer.produce(topic, record.value, record.key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
        self.published[record.kind] += 1
        self.at = record.time

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            raise FeederFailed(str(error))
