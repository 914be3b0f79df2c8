"""What surrounds a monitor in its tests: producers of data and labels, and the words of the other services."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from compose.embedded.stack import Stack
from schemas.envelope import Envelope, read
from schemas.events.base import Event
from schemas.events.ingestor import DatasetCommitted
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.specs import ModelSpec, StreamSpec
from schemas.topics import DATA, LABELS, LIFECYCLE, MONITOR, TOPIC_OF
from shared.kafka import control_topics, ensure_topics, model_topics, stream_topics
from shared.reading import take
from shared.settings import KafkaSettings

START = datetime(2013, 1, 1, tzinfo=UTC)
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


def stream_spec(name: str, **changes: Any) -> StreamSpec:
    declared = {
        "stream": name,
        "entity": "device",
        "partitions": 2,
        "features": {
            "heat": {"type": "float", "min": -100, "max": 100},
            "kind": {"type": "category", "values": ["a", "b"]},
        },
        "label": {"type": "bool", "delay": "2h"},
        "lateness": "1h",
    }
    return StreamSpec.model_validate(declared | changes)


def model_spec(name: str, stream: str, **changes: Any) -> ModelSpec:
    declared = {
        "model": name,
        "stream": stream,
        "owner": "tests",
        "task": "binary",
        "features": ["heat", "kind"],
        "training": {"window": "60d", "min_rows": 300, "estimators": ["logistic_regression"]},
        "monitoring": {"window": 200},
    }
    return ModelSpec.model_validate(declared | changes)


class Surroundings:
    """One stream with one model, as the other services and the producers make them."""

    def __init__(self, stack: Stack) -> None:
        self.kafka = KafkaSettings()
        self.stack = stack
        self.stream = stream_spec(f"s-{uuid.uuid4().hex[:8]}")
        self.model = model_spec(f"m-{uuid.uuid4().hex[:8]}", self.stream.stream)
        self.producer = Producer(self.kafka.librdkafka() | {"enable.idempotence": True, "linger.ms": 5})
        self.ends: dict[str, dict[int, int]] = {"data": {}, "labels": {}}

    async def declare(self) -> None:
        partitions = self.stream.partitions
        await ensure_topics(self.kafka, control_topics(self.kafka))
        await ensure_topics(self.kafka, stream_topics(self.kafka, self.stream.stream, partitions))
        await ensure_topics(self.kafka, model_topics(self.kafka, self.model.model, partitions))
        said = {"revision": 1, "actor": "tests", "reason": "tests"}
        self.say(StreamApplied(stream=self.stream.stream, spec=self.stream, **said))
        self.say(ModelApplied(model=self.model.model, spec=self.model, stream_spec=self.stream, **said))

    def say(self, event: Event, *, event_id: str | None = None, correlation_id: str = "tests") -> str:
        """Say a lifecycle event as its own service would."""
        envelope = Envelope(
            id=event_id or str(uuid.uuid4()),
            source="modelbus/tests",
            time=datetime.now(UTC),
            correlation_id=correlation_id,
            causation_id=None,
            traceparent=TRACE,
            event=event,
        )
        topic = TOPIC_OF[type(event)].name
        self.producer.produce(topic, event.encode(), event.key, headers=envelope.headers())
        self.producer.flush(10)
        return envelope.id

    def publish(
        self, kind: str, records: Iterable[dict[str, Any]], places: dict[str, tuple[int, int]] | None = None
    ) -> None:
        """Produce data or labels; remembers the ends of the partitions, and in `places` where each id came to be."""
        topic = (DATA if kind == "data" else LABELS).of(self.stream.stream)
        failures: list[Any] = []

        def delivered(error: Any, message: Any) -> None:
            if error:
                failures.append(error)
            ends = self.ends[kind]
            if places is not None:
                places[msgspec.json.decode(message.value())["id"]] = (message.partition(), message.offset())
            ends[message.partition()] = max(ends.get(message.partition(), 0), message.offset() + 1)

        for record in records:
            self.producer.produce(topic, msgspec.json.encode(record), record["entity"], on_delivery=delivered)
            self.producer.poll(0)
        self.producer.flush(30)
        assert not failures

    def committed(self, kind: str, version: int) -> str:
        """Say that a table holds everything published so far."""
        event = DatasetCommitted(
            stream=self.stream.stream,
            kind=kind,  # type: ignore[arg-type]
            table=f"{kind}/{self.stream.stream}",
            version=version,
            offsets=self.ends[kind],
            rows_added=1,
            rows_total=1,
            time_min=None,
            time_max=None,
        )
        return self.say(event, event_id=f"{kind}/{self.stream.stream}@{version}")

    def heard(self, owner: str | None = None) -> list[Envelope]:
        """Everything the monitor has said about the model or the stream, read to the end."""
        consumer = Consumer(self.kafka.librdkafka() | {"group.id": "tests", "isolation.level": "read_committed"})
        said = []
        try:
            for partition in range(MONITOR.partitions):
                place = TopicPartition(MONITOR.name, partition, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=10)
                consumer.assign([place])
                at = 0
                while at < end:
                    for message in take(consumer, 500, 1.0):
                        assert message.error() is None
                        at = message.offset() + 1
                        said.append(read(message.headers(), message.value()))
        finally:
            consumer.close()
        names = {owner or self.model.model, self.stream.stream}
        return [each for each in said if each is not None and each.event.key in names]


def data(index: int, time: datetime, heat: float = 0.0, kind: str = "a") -> dict[str, Any]:
    features = {"heat": heat, "kind": kind}
    return {"id": f"e{index}", "entity": f"d{index % 50}", "time": time, "features": features}


def label(index: int, time: datetime, value: bool) -> dict[str, Any]:
    return {"id": f"e{index}", "entity": f"d{index % 50}", "time": time, "label": value}


def minute(index: int) -> datetime:
    return START + timedelta(minutes=index)


@asynccontextmanager
async def monitor_process(log: Path, **settings: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """`python -m services.monitor`, started again whenever it ends; yields what kills it with SIGKILL."""
    await asyncio.to_thread(log.touch)  # it is read before the process has started
    running = True
    process: asyncio.subprocess.Process | None = None

    async def keep() -> None:
        nonlocal process
        with log.open("ab") as output:
            while running:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "services.monitor"), env=os.environ | settings, stderr=output
                )
                await process.wait()

    async def kill() -> None:
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()

    keeper = asyncio.create_task(keep())
    try:
        yield kill
    finally:
        running = False
        if process is not None and process.returncode is None:
            process.terminate()
        await asyncio.wait_for(keeper, 30)


async def until(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    """Poll until it holds.

    Raises:
        TimeoutError: it did not in time.
    """
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # the condition lies outside this process
            await asyncio.sleep(0.2)


__all__ = ["LIFECYCLE", "Surroundings", "data", "label", "minute", "monitor_process", "until"]
