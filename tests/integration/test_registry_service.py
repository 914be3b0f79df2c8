"""The registry whole, on the real stack: apply over HTTP, topics made, events said in order."""

import json
import os
from collections.abc import AsyncIterator

import httpx
import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from compose.embedded.stack import Stack
from schemas import envelope
from schemas.envelope import Envelope
from schemas.events.registry import ModelApplied, StreamApplied
from schemas.topics import DATA, LABELS, PREDICTIONS, REGISTRY, SHADOW
from services.registry.app import opened
from shared.settings import KafkaSettings

DECLARED = """\
stream: rivers
entity: gauge
partitions: 3
features:
  level: {type: float, min: 0}
label: {type: bool, delay: 1h}
---
model: flood
stream: rivers
owner: water-board
task: binary
features: [level]
training: {window: 60d, min_rows: 500, estimators: [logistic_regression]}
"""

pytestmark = pytest.mark.stack


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {os.environ['MODELBUS_REGISTRY_OPERATOR_TOKEN']}", "X-Actor": "ann"}
    port = os.environ["MODELBUS_REGISTRY_HTTP_PORT"]
    async with opened(), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        yield client


def said(count: int, timeout_seconds: float = 20) -> list[Envelope]:
    """The first `count` events of the registry that concern this test."""
    consumer = Consumer(
        KafkaSettings().librdkafka() | {"group.id": os.urandom(4).hex(), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([REGISTRY.name])
    found: list[Envelope] = []
    try:
        while len(found) < count:
            record = consumer.poll(timeout_seconds)
            assert record is not None, f"only {len(found)} events in time"
            assert not record.error(), record.error()
            heard = envelope.read(record.headers(), record.value())
            if heard is not None and heard.event.key in {"rivers", "flood"}:
                found.append(heard)
    finally:
        consumer.close()
    return found


async def test_applying_makes_the_topics_and_says_what_was_applied(client: httpx.AsyncClient) -> None:
    answer = await client.post("/apply", content=DECLARED, headers={"Content-Type": "text/yaml"})

    assert answer.status_code == 200, answer.text
    assert [change["verdict"] for change in answer.json()["changes"]] == ["created", "created"]
    topics = AdminClient(KafkaSettings().librdkafka()).list_topics(timeout=10).topics
    made = [DATA.of("rivers"), LABELS.of("rivers"), PREDICTIONS.of("flood"), SHADOW.of("flood")]
    assert [len(topics[name].partitions) for name in made] == [3, 3, 3, 3]
    events = {type(heard.event): heard.event for heard in said(2)}
    applied = events[ModelApplied]
    assert isinstance(applied, ModelApplied)
    assert (applied.actor, applied.stream_spec.stream) == ("operator:ann", "rivers")
    assert StreamApplied in events


async def test_the_health_routes_are_open_and_nothing_else_is(client: httpx.AsyncClient) -> None:
    client.headers.pop("Authorization")

    assert (await client.get("/readyz")).status_code == 200
    refused = await client.get("/status")
    assert refused.status_code == 401
    assert json.loads(refused.text)["type"] == "urn:modelbus:problem:unauthenticated"
