"""The control plane on a real broker and a real database: said once, heard once, retried, parked, traced."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from compose.embedded.stack import Stack
from schemas import envelope
from schemas.envelope import Envelope
from schemas.events.monitor import AlertResolved
from schemas.events.trainer import TrainingFailed
from schemas.events.validator import ModelValidated
from schemas.topics import DEAD_LETTERS, MONITOR, TRAINER, VALIDATOR
from shared.bus import Bus, Handlers, outbox_producer
from shared.errors import Fatal, TooEarly
from shared.kafka import control_topics, ensure_topics
from shared.outbox import Work, relay, unit_of_work
from shared.settings import KafkaSettings
from tests.conftest import PoolFor, own_stack  # noqa: F401  # own_stack is this file's stack

_LIMIT_SECONDS = 20


@pytest.fixture
async def kafka(stack: Stack) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=stack.environment["MODELBUS_KAFKA_BOOTSTRAP_SERVERS"])
    await ensure_topics(settings, control_topics(settings))
    return settings


def alert(model: str, explanation: str = "it passed") -> AlertResolved:
    return AlertResolved(model=model, alert="a1", explanation=explanation, resolved_at=datetime(2013, 1, 1, tzinfo=UTC))


def failure(model: str) -> TrainingFailed:
    return TrainingFailed(model=model, run_id="r1", reason="crashed", explanation="it did")


async def until(happened: Callable[[], Awaitable[object]]) -> object:
    async with asyncio.timeout(_LIMIT_SECONDS):
        while not (result := await happened()):  # noqa: ASYNC110  # nothing in a database can wake us
            await asyncio.sleep(0.05)
        return result


@asynccontextmanager
async def listening(
    kafka: KafkaSettings, pool: asyncpg.Pool, service: str, handlers: Handlers
) -> AsyncIterator[tuple[Bus, AIOKafkaProducer]]:
    """One service's bus and relay."""
    producer = outbox_producer(kafka, service)
    await producer.start()
    bus = Bus(service=service, kafka=kafka, pool=pool, producer=producer, handlers=handlers)
    await bus.start()
    publishing = asyncio.create_task(relay(pool, service, producer))
    try:
        yield bus, producer
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await bus.stop()
        await producer.stop()


async def say(producer: AIOKafkaProducer, said: AlertResolved, event_id: str | None = None) -> str:
    event_id = event_id or str(uuid.uuid4())
    message = Envelope(
        id=event_id,
        source="modelbus/monitor",
        time=datetime.now(UTC),
        correlation_id="lifecycle-1",
        causation_id=None,
        traceparent=None,
        event=said,
    )
    await producer.send_and_wait(MONITOR.name, key=said.key.encode(), value=said.encode(), headers=message.headers())
    return event_id


async def records(kafka: KafkaSettings, topic: str) -> list[Any]:
    """Everything in a topic, by a reader that knows nothing of modelbus."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[Any] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def test_what_was_heard_and_said_twice_is_handled_once_and_said_in_order(
    kafka: KafkaSettings, pool_for: PoolFor
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    pool = await pool_for("trainer", [])
    await pool.execute("CREATE TABLE heard (explanation text)")

    async def on_alert_resolved(event: AlertResolved, work: Work) -> None:
        if event.model == model:
            await work.connection.execute("INSERT INTO heard VALUES ($1)", event.explanation)
            await work.emit(failure(model))

    async with listening(kafka, pool, "trainer", {MONITOR: {AlertResolved: on_alert_resolved}}) as (_, producer):
        first = await say(producer, alert(model, "one"))
        await say(producer, alert(model, "one"), first)
        await say(producer, alert(model, "two"))
        await until(lambda: pool.fetchval("SELECT count(*) = 2 FROM heard"))
        await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))

    said = [envelope.read(each.headers, each.value) for each in await records(kafka, TRAINER.name)]
    ours = [each for each in said if each and each.event.key == model]
    assert [row["explanation"] for row in await pool.fetch("SELECT * FROM heard")] == ["one", "two"]
    assert len(ours) == 2
    assert ours[0].causation_id == first
    assert {each.correlation_id for each in ours} == {"lifecycle-1"}


async def test_a_handler_that_fails_leaves_neither_state_nor_event_and_is_tried_again(
    kafka: KafkaSettings, pool_for: PoolFor
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    pool = await pool_for("trainer", [])
    await pool.execute("CREATE TABLE heard (attempt int)")
    attempts: list[int] = []

    async def on_alert_resolved(event: AlertResolved, work: Work) -> None:
        if event.model != model:
            return
        attempts.append(1)
        await work.connection.execute("INSERT INTO heard VALUES ($1)", len(attempts))
        await work.emit(failure(model))
        if len(attempts) < 4:
            raise TooEarly("the other event is not here yet")

    async with listening(kafka, pool, "trainer", {MONITOR: {AlertResolved: on_alert_resolved}}) as (_, producer):
        await say(producer, alert(model))
        await until(lambda: pool.fetchval("SELECT count(*) > 0 FROM heard"))
        await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))

    said = [envelope.read(each.headers, each.value) for each in await records(kafka, TRAINER.name)]
    assert await pool.fetch("SELECT attempt FROM heard") == [(4,)]
    assert len([each for each in said if each and each.event.key == model]) == 1


async def test_what_always_fails_and_what_cannot_be_read_is_parked_untouched_and_the_partition_goes_on(
    kafka: KafkaSettings, pool_for: PoolFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.ATTEMPTS", 3)
    model = f"model-{uuid.uuid4().hex[:8]}"
    pool = await pool_for("trainer", [])
    await pool.execute("CREATE TABLE heard (explanation text)")
    poison = b"\xff not json " + model.encode()

    async def on_alert_resolved(event: AlertResolved, work: Work) -> None:
        if event.model == model and event.explanation == "bad":
            raise ZeroDivisionError
        await work.connection.execute("INSERT INTO heard VALUES ($1)", event.model + event.explanation)

    async with listening(kafka, pool, "trainer", {MONITOR: {AlertResolved: on_alert_resolved}}) as (_, producer):
        await producer.send_and_wait(
            MONITOR.name,
            key=model.encode(),
            value=poison,
            headers=[("ce_type", b"modelbus.alert.resolved.v1"), ("x", b"\xfe")],
        )
        await say(producer, alert(model, "bad"))
        await say(producer, alert(model, "good"))
        await until(lambda: pool.fetchval("SELECT count(*) = 1 FROM heard WHERE explanation = $1", model + "good"))

    parked = [each for each in await records(kafka, DEAD_LETTERS) if each.key == model.encode()]
    headers = [dict(each.headers) for each in parked]
    assert [each["dlq-reason"] for each in headers] == [b"poison", b"exhausted"]
    assert parked[0].value == poison
    assert headers[0]["x"] == b"\xfe"
    assert headers[1]["dlq-attempts"] == b"3"
    assert b"ZeroDivisionError" in headers[1]["dlq-error"]


async def test_an_outage_of_postgres_parks_nothing_however_long_it_is(
    kafka: KafkaSettings, pool_for: PoolFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.ATTEMPTS", 1)
    monkeypatch.setattr("shared.bus._LONGEST_BACK_OFF_SECONDS", 0.05)
    model = f"model-{uuid.uuid4().hex[:8]}"
    pool = await pool_for("trainer", [])
    attempts: list[str] = []

    async def on_alert_resolved(event: AlertResolved, _work: Work) -> None:
        if event.model == model:
            attempts.append(event.explanation)
            if len(attempts) < 5:
                raise asyncpg.CannotConnectNowError("the database system is starting up")

    async def heard_after_all() -> bool:
        return len(attempts) == 5

    async with listening(kafka, pool, "trainer", {MONITOR: {AlertResolved: on_alert_resolved}}) as (_, producer):
        await say(producer, alert(model))
        await until(heard_after_all)

    assert [each for each in await records(kafka, DEAD_LETTERS) if each.key == model.encode()] == []


async def test_an_unknown_major_ends_the_service_instead_of_being_parked(
    kafka: KafkaSettings, pool_for: PoolFor
) -> None:
    pool = await pool_for("registry", [])

    async def on_model_validated(_event: ModelValidated, _work: Work) -> None:
        return

    handlers = {VALIDATOR: {ModelValidated: on_model_validated}}
    async with listening(kafka, pool, "registry", handlers) as (bus, producer):
        headers = [("ce_type", b"modelbus.model.validated.v9"), ("ce_id", b"1"), ("ce_source", b"x")]
        sent = await producer.send_and_wait(VALIDATOR.name, key=b"m", value=b"{}", headers=headers)
        with pytest.raises(Fatal, match=r"model\.validated\.v9"):
            await asyncio.wait_for(asyncio.shield(bus.failed), _LIMIT_SECONDS)

    parked = [dict(each.headers) for each in await records(kafka, DEAD_LETTERS)]
    origins = [(each["dlq-origin-topic"], each["dlq-origin-offset"]) for each in parked]
    assert (VALIDATOR.name.encode(), str(sent.offset).encode()) not in origins


async def test_a_trace_goes_on_through_the_outbox_to_the_next_service(
    kafka: KafkaSettings, pool_for: PoolFor, spans: InMemorySpanExporter
) -> None:
    model = f"model-{uuid.uuid4().hex[:8]}"
    monitor, trainer = await pool_for("monitor", []), await pool_for("trainer", [])
    heard = asyncio.Event()

    async def on_alert_resolved(event: AlertResolved, _work: Work) -> None:
        if event.model == model:
            heard.set()

    async with listening(kafka, trainer, "trainer", {MONITOR: {AlertResolved: on_alert_resolved}}):
        producer = outbox_producer(kafka, "monitor")
        await producer.start()
        publishing = asyncio.create_task(relay(monitor, "monitor", producer))
        with trace.get_tracer("test").start_as_current_span("decide") as root:
            async with unit_of_work(monitor, "monitor") as work:
                await work.emit(alert(model))
        await asyncio.wait_for(heard.wait(), _LIMIT_SECONDS)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await producer.stop()

    of_trace = {
        span.context.span_id: span
        for span in spans.get_finished_spans()
        if span.context.trace_id == root.get_span_context().trace_id
    }
    names = [span.name for span in of_trace.values()]
    assert sorted(names) == ["decide", "process alert.resolved.v1", f"publish {MONITOR.name}"]
    assert all(span.parent is None or span.parent.span_id in of_trace for span in of_trace.values())


async def test_an_event_that_is_not_the_services_to_say_is_refused(pool_for: PoolFor) -> None:
    pool = await pool_for("trainer", [])

    with pytest.raises(ValueError, match="only monitor may say it"):
        async with unit_of_work(pool, "trainer") as work:
            await work.emit(alert("m"))
