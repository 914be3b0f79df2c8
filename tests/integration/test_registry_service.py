"""The registry whole, on the real stack: apply over HTTP, topics made, events said in order."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import schemathesis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, Phase, given, settings
from typer.testing import CliRunner, Result

from cli import audit
from compose.embedded.stack import Stack
from schemas.envelope import Envelope
from schemas.events.registry import ModelApplied, ModelRegistered, StreamApplied
from schemas.topics import DATA, LABELS, PREDICTIONS, REGISTRY, SHADOW, VALIDATOR
from services.registry.app import opened
from shared.reading import envelope_of
from shared.settings import KafkaSettings
from tests.conftest import own_stack  # noqa: F401  # it is this file's stack
from tests.integration.registry_kit import validated

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

FUZZ = settings(max_examples=10, deadline=None, database=None, derandomize=True,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
async def running(stack: Stack) -> AsyncIterator[str]:
    """The service, and where it listens."""
    async with opened():
        yield f"http://127.0.0.1:{os.environ['MODELBUS_REGISTRY_HTTP_PORT']}"


@pytest.fixture
async def client(running: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {os.environ['MODELBUS_REGISTRY_OPERATOR_TOKEN']}", "X-Actor": "ann"}
    async with httpx.AsyncClient(base_url=running, headers=headers, timeout=60) as client:
        yield client


async def apply(client: httpx.AsyncClient) -> list[str]:
    answer = await client.post("/apply", content=DECLARED, headers={"Content-Type": "text/yaml"})
    assert answer.status_code == 200, answer.text
    return [change["verdict"] for change in answer.json()["changes"]]


async def first_said(wanted: Callable[[Envelope], bool], timeout_seconds: float = 180) -> Envelope:
    """Read the registry's topic from its beginning; in a thread, as the registry lives in this loop."""
    return await asyncio.to_thread(_first_said, wanted, time.monotonic() + timeout_seconds)


def _first_said(wanted: Callable[[Envelope], bool], until: float) -> Envelope:
    group = {"group.id": os.urandom(4).hex(), "auto.offset.reset": "earliest"}
    consumer = Consumer(KafkaSettings().librdkafka() | group)
    consumer.subscribe([REGISTRY.name])
    try:
        while time.monotonic() < until:
            record = consumer.poll(1)
            if record is None or record.error():
                continue
            heard = envelope_of(record)
            if heard is not None and wanted(heard):
                return heard
    finally:
        consumer.close()
    raise AssertionError("the registry did not say it in time")


async def test_applying_makes_the_topics_and_says_what_was_applied(client: httpx.AsyncClient) -> None:
    assert await apply(client) == ["created", "created"]

    topics = AdminClient(KafkaSettings().librdkafka()).list_topics(timeout=10).topics
    made = [DATA.of("rivers"), LABELS.of("rivers"), PREDICTIONS.of("flood"), SHADOW.of("flood")]
    assert [len(topics[name].partitions) for name in made] == [3, 3, 3, 3]
    await first_said(lambda heard: isinstance(heard.event, StreamApplied) and heard.event.stream == "rivers")
    applied = (await first_said(lambda heard: isinstance(heard.event, ModelApplied))).event
    assert isinstance(applied, ModelApplied)
    assert (applied.model, applied.actor, applied.stream_spec.stream) == ("flood", "operator:ann", "rivers")


async def test_applying_again_is_a_no_op_and_says_nothing(client: httpx.AsyncClient) -> None:
    await apply(client)
    before = (await client.get("/audit")).json()["items"]

    assert await apply(client) == ["unchanged", "unchanged"]

    assert (await client.get("/audit")).json()["items"] == before


async def test_a_verdict_on_the_bus_becomes_a_registered_version_in_its_trace(client: httpx.AsyncClient) -> None:
    await apply(client)
    run_id = os.urandom(4).hex()
    heard = Envelope(
        id=run_id,
        source="modelbus/validator",
        time=datetime.now(UTC),
        correlation_id=run_id,
        causation_id=None,
        traceparent=f"00-{run_id * 4}-{'cd' * 8}-01",
        event=validated(run_id),
    )
    headers: Any = heard.headers()
    producer = Producer(KafkaSettings().librdkafka())
    for _ in range(2):  # the bus may say it twice
        producer.produce(VALIDATOR.name, key=b"flood", value=heard.event.encode(), headers=headers)
    producer.flush(10)

    registered = await first_said(
        lambda said: said.correlation_id == run_id and isinstance(said.event, ModelRegistered)
    )

    assert registered.causation_id == run_id
    assert registered.traceparent is not None
    assert registered.traceparent.split("-")[1] == run_id * 4
    assert isinstance(registered.event, ModelRegistered)
    told = (await client.get(f"/models/flood/versions/{registered.event.version}")).json()
    assert (told["stage"], told["run_id"], told["trace_id"]) == ("registered", run_id, run_id * 4)


async def run(*arguments: str) -> Result:
    """`modelbus audit …`, in a thread, as the registry lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(audit.app, arguments, catch_exceptions=False))


@asynccontextmanager
async def without_last_audit_row() -> AsyncIterator[None]:
    connection: Any = await asyncpg.connect(
        os.environ["MODELBUS_POSTGRES_DSN"], server_settings={"search_path": "registry"}
    )
    try:
        await connection.execute("ALTER TABLE audit DISABLE TRIGGER USER; CREATE TABLE kept AS TABLE audit")
        await connection.execute("DELETE FROM audit WHERE position = (SELECT max(position) FROM audit)")
        yield
        await connection.execute("TRUNCATE audit; INSERT INTO audit SELECT * FROM kept")
        await connection.execute("DROP TABLE kept; ALTER TABLE audit ENABLE TRIGGER USER")
    finally:
        await connection.close()


async def test_the_audit_log_is_verified_against_the_topic_so_that_a_cut_is_found(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await apply(client)
    assert (await client.post("/models/flood/freeze", json={"reason": "a test"})).status_code == 200
    rows = (await client.get("/audit")).json()["items"]
    async with asyncio.timeout(30):
        while (found := (await client.get("/audit/verify")).json())["said_up_to"] < found["rows"]:  # noqa: ASYNC110  # nothing tells that the relay is done
            await asyncio.sleep(0.05)
    copy = tmp_path / "audit.jsonl"

    intact, exported = await run("verify", "--no-artifacts"), await run("export", "--out", str(copy))
    without_bytes = await run("verify")
    async with without_last_audit_row():
        cut = await run("verify", "--no-artifacts")

    assert (found["broken"], found["hash"]) == (None, rows[-1]["hash"])
    assert (intact.exit_code, exported.exit_code, cut.exit_code) == (0, 0, 1)
    assert f"intact up to row {len(rows)}" in intact.stdout
    assert (without_bytes.exit_code, "flood:1: onnx is missing" in without_bytes.stderr) == (1, True)
    assert [json.loads(line) for line in copy.read_text().splitlines()] == rows
    assert f"intact up to row {len(rows) - 1} and broken at {len(rows)}: cut off here" in cut.stderr


async def test_the_health_routes_are_open_and_nothing_else_is(client: httpx.AsyncClient) -> None:
    client.headers.pop("Authorization")

    assert (await client.get("/readyz")).status_code == 200
    refused = await client.get("/status")
    assert refused.status_code == 401
    assert json.loads(refused.text)["type"] == "urn:modelbus:problem:unauthenticated"


def attacked(url: str) -> dict[str, set[int]]:
    """What each route answered; by an approver, who may do everything."""
    headers = {"Authorization": f"Bearer {os.environ['MODELBUS_REGISTRY_APPROVER_TOKEN']}"}
    answered: dict[str, set[int]] = {}
    for result in schemathesis.openapi.from_url(f"{url}/openapi.json", headers=headers).get_all_operations():
        operation = result.ok()

        @FUZZ
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers)
            answered.setdefault(f"{case.method} {case.path}", set()).add(answer.status_code)
            assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.text}"

        ask()
    return answered


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis does
async def test_no_request_that_the_description_allows_breaks_a_route(running: str) -> None:
    answered = await asyncio.to_thread(attacked, running)

    assert len(answered) > 20
    assert set.union(*answered.values()) >= {200, 404}
