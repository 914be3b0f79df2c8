"""Clients that know nothing of modelbus write events and read predictions: Kafka's own console tools, kafka-python."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from compose.embedded import jars
from compose.embedded.java import java, path_of
from compose.embedded.stack import Stack
from schemas.topics import DATA, PREDICTIONS
from tests import latin_client
from tests.scoring_world import World, changed, scorers, until

pytestmark = pytest.mark.stack


def event(number: int, entity: str) -> str:
    features = {"heat": 1.5, "weight": None, "colour": "red"}
    said = {"id": f"plain-{number}", "entity": entity, "time": "2013-01-01T00:00:00Z", "features": features}
    return json.dumps(said)


def console(tool: str, *arguments: str) -> list[str]:
    """The command line of one of the console tools that come with Kafka."""
    path = path_of(jars.class_path(jars.KAFKA, jars.KAFKA_TOOLS))
    return [*java("-cp", path, f"org.apache.kafka.tools.{tool}", heap_mb=128), *arguments]


async def served(world: World) -> None:
    await until(lambda: len(world.predictions()) >= 3)


async def test_kafkas_console_producer_writes_events_and_its_console_consumer_gets_the_predictions(
    stack: Stack, tmp_path: Path
) -> None:
    world = await World.made("console")
    world.say(changed(1, world.release(1)))
    broker = ("--bootstrap-server", world.kafka.bootstrap_servers)
    lines = "".join(f"machine-{number}|{event(number, f'machine-{number}')}\n" for number in range(3))
    keyed = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=|")
    committed = (
        "--isolation-level",
        "read_committed",
        "--from-beginning",
        "--max-messages",
        "3",
        "--timeout-ms",
        "20000",
    )

    with scorers(tmp_path):
        write = console("ConsoleProducer", *broker, "--topic", DATA.of("console"), *keyed)
        await asyncio.to_thread(subprocess.run, write, input=lines.encode(), check=True, timeout=60)
        await served(world)
        read = console("consumer.ConsoleConsumer", *broker, "--topic", PREDICTIONS.of("console-m0"), *committed)
        got = await asyncio.to_thread(subprocess.run, read, capture_output=True, check=True, timeout=60)

    predictions = [json.loads(line) for line in got.stdout.splitlines() if line.startswith(b"{")]
    assert {each["event_id"]: each["version"] for each in predictions} == {f"plain-{n}": 1 for n in range(3)}


@contextmanager
def reading(servers: str, topic: str) -> Iterator[Any]:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        consumer_timeout_ms=60_000,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def written_and_read(world: World) -> dict[str, str]:
    """Three events in by kafka-python, their predictions out: entity by event id."""
    producer = KafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers)
    for number in range(3):
        entity = f"machine-{number}"
        producer.send(DATA.of("snake"), key=entity.encode(), value=event(number, entity).encode()).get(20)
    producer.close()
    found: dict[str, str] = {}
    with reading(world.kafka.bootstrap_servers, PREDICTIONS.of("snake-m0")) as consumer:
        for message in consumer:
            said = json.loads(message.value)
            found[said["event_id"]] = message.key.decode()
            if len(found) == 3:
                break
    return found


async def test_kafka_python_writes_events_and_reads_their_predictions(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("snake")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path):
        found = await asyncio.to_thread(written_and_read, world)

    assert found == {f"plain-{number}": f"machine-{number}" for number in range(3)}


async def test_a_record_with_a_header_that_no_client_of_ours_can_read_is_answered(stack: Stack, tmp_path: Path) -> None:
    world = await World.made("latin")
    world.say(changed(1, world.release(1)))

    with scorers(tmp_path) as [scorer]:
        await asyncio.to_thread(latin_client.send, DATA.of("latin"), b"machine-1", event(1, "machine-1").encode())
        await until(lambda: len(world.predictions()) == 1)
        assert scorer.stop() == 0

    assert [each["event_id"] for each in world.predictions()] == ["plain-1"]
