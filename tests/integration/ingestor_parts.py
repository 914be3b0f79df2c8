"""A real ingestor in a process of its own, and what a producer, the registry and an independent reader see of it."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from deltalake import DeltaTable

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.events.ingestor import DatasetCommitted, Kind
from schemas.events.registry import StreamApplied
from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, Label, StreamSpec
from schemas.topics import DEAD_LETTERS, INGESTOR, MAX_RECORD_BYTES, REGISTRY
from services.ingestor.settings import Settings
from shared.kafka import control_topics, ensure_topics, stream_topics
from shared.reading import envelope_of, take
from shared.settings import KafkaSettings, S3Settings
from shared.tables import NoTable, Tables

ROOT = Path(__file__).parents[2]
START = datetime(2013, 1, 1, tzinfo=UTC)
Found = TypeVar("Found")


def until(look: Callable[[], Found | None], seconds: float = 180) -> Found:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{look} found nothing within {seconds} s")


def stream_spec(partitions: int = 2) -> StreamSpec:
    """A stream of its own for a test."""
    return StreamSpec(
        stream=f"s{uuid.uuid4().hex[:10]}",
        entity="tailnum",
        partitions=partitions,
        features={
            "distance": FloatFeature(type="float", min=0, max=5000, on_range="reject"),
            "delay": FloatFeature(type="float", min=-100, max=2000),
            "carrier": CategoryFeature(type="category", values=("UA", "AA")),
            "night": BoolFeature(type="bool"),
        },
        label=Label(type="bool", delay=timedelta(hours=8)),
    )


def data(number: int, **changes: Any) -> dict[str, Any]:
    """A good data record."""
    record = {
        "id": f"e{number}",
        "entity": f"N{number % 97}",
        "time": (START + timedelta(minutes=number)).isoformat(),
        "features": {"distance": 100.0 + number % 1000, "delay": 1.5, "carrier": "UA", "night": True},
    }
    return record | changes


def producer(**settings: Any) -> Producer:
    usual = {"enable.idempotence": True, "message.max.bytes": MAX_RECORD_BYTES, "linger.ms": 20}
    return Producer(KafkaSettings().librdkafka() | usual | settings)


def publish(topic: str, records: Sequence[dict[str, Any]]) -> None:
    """Write records keyed by their entity."""
    writer = producer()
    for record in records:
        writer.produce(topic, key=record["entity"], value=json.dumps(record).encode())
    assert writer.flush(30) == 0


def say(event: Event) -> None:
    """What the registry would say."""
    said = Envelope(
        id=str(uuid.uuid4()),
        source="modelbus/registry",
        time=datetime.now(UTC),
        correlation_id="test",
        causation_id=None,
        traceparent=None,
        event=event,
    )
    writer = producer()
    writer.produce(REGISTRY.name, key=event.key, value=event.encode(), headers=[*said.headers()])
    assert writer.flush(30) == 0


async def apply(spec: StreamSpec, revision: int = 1) -> StreamSpec:
    """Make a stream's topics and say that it is applied."""
    kafka = KafkaSettings()
    await ensure_topics(kafka, [*control_topics(kafka), *stream_topics(kafka, spec.stream, spec.partitions)])
    say(StreamApplied(stream=spec.stream, revision=revision, spec=spec, actor="test", reason="test"))
    return spec


def ends(topic: str, partitions: int) -> dict[int, int]:
    """The offset after the last record of each partition."""
    reader = Consumer(KafkaSettings().librdkafka() | {"group.id": "ends"})
    try:
        return {p: reader.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in range(partitions)}
    finally:
        reader.close()


def everything(topic: str, partitions: int) -> list[Any]:
    """All records of a topic, read without a group up to its present ends."""
    wanted = {p: end for p, end in ends(topic, partitions).items() if end}
    reader = Consumer(
        KafkaSettings().librdkafka()
        | {
            "group.id": "everything",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    found: list[Any] = []
    try:
        reader.assign([TopicPartition(topic, p, 0) for p in wanted])
        while wanted:
            for message in take(reader, 1000, 1.0):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    wanted.pop(message.partition(), None)
    finally:
        reader.close()
    return found


def letters(topic: str) -> dict[tuple[int, int], Any]:
    """Dead letters of an origin topic by the origin's place; a letter parked twice is one."""
    found = {}
    for message in everything(DEAD_LETTERS, 1):
        headers = dict(message.headers())
        if headers["dlq-origin-topic"] == topic.encode():
            found[int(headers["dlq-origin-partition"]), int(headers["dlq-origin-offset"])] = message
    return found


def committed(table: str) -> dict[str, DatasetCommitted]:
    """dataset.committed of a table by event id, in order of versions."""
    found = {}
    for message in everything(INGESTOR.name, INGESTOR.partitions):
        said = envelope_of(message)
        if said and isinstance(said.event, DatasetCommitted) and said.event.table == table:
            found[said.id] = said.event
    return dict(sorted(found.items(), key=lambda item: item[1].version))


def newest(kind: Kind, owner: str) -> DeltaTable | None:
    try:
        return Tables(S3Settings()).open(kind, owner)
    except NoTable:
        return None


def holds(kind: Kind, owner: str, offsets: Mapping[int, int]) -> bool:
    """Whether the table has come to these offsets."""
    table = newest(kind, owner)
    return table is not None and all(
        (table.transaction_version(f"{kind}.{owner}/{p}") or 0) >= end for p, end in offsets.items()
    )


AS_SHIPPED = {"MODELBUS_INGESTOR_COMMIT_SECONDS": str(Settings.model_fields["commit_seconds"].default)}


def spawn(log: Path, **settings: str) -> subprocess.Popen[bytes]:
    """`python -m services.ingestor`."""
    fast = {"MODELBUS_INGESTOR_HTTP_PORT": "0", "MODELBUS_INGESTOR_COMMIT_SECONDS": "0.3"}
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "services.ingestor"], cwd=ROOT, env=os.environ | fast | settings, stderr=sink
        )


@contextmanager
def ingestor(log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """An ingestor while the block runs; it must live until then, and stop when told to."""
    process = spawn(log, **settings)
    try:
        yield process
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
