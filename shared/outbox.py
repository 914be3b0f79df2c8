"""One transaction holds what was heard, what changed and what is to be said; a relay says it.

So there is no state without its event and no event without its state. Order is kept per aggregate (event key):
writers of one aggregate take turns, so the outbox positions of an aggregate follow its commits.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry.trace import SpanKind

from schemas.envelope import Envelope
from schemas.events.base import Event
from schemas.topics import TOPIC_OF
from shared import telemetry
from shared.postgres import AWAY, QUERIES, Connection

_BATCH = 100
_POLL_SECONDS = 1.0
_BACK_OFF_SECONDS = 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A unit of work: a connection inside a transaction, and what led to it."""

    connection: Connection
    service: str
    cause: Envelope | None = None

    async def emit(
        self,
        event: Event,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Envelope:
        """Say `event` when, and only if, the transaction commits; returns it as it will be said.

        Correlation, causation and trace go on from the cause, or from the arguments where work outlives its cause
        (jobs, the data plane). `id` is given where an event can be derived again and must be the same.

        Raises:
            ValueError: the event is not this service's to say.
        """
        topic = TOPIC_OF[type(event)]
        if topic.writer != self.service:
            raise ValueError(f"{event.event}: only {topic.writer} may say it, not {self.service}")
        event_id = id or str(uuid.uuid4())
        inherited = self.cause.correlation_id if self.cause else event_id
        envelope = Envelope(
            id=event_id,
            source=f"modelbus/{self.service}",
            time=datetime.now(UTC),
            correlation_id=correlation_id or inherited,
            causation_id=causation_id or (self.cause.id if self.cause else None),
            traceparent=None,
            event=event,
        )
        await self.put(envelope, traceparent or telemetry.current_traceparent())
        return envelope

    async def put(self, said: Envelope, context: str | None) -> None:
        """Into the outbox, behind what else is said of its aggregate."""
        event = said.event
        await self.write(TOPIC_OF[type(event)].name, event.key, event.encode(), said.headers(), context)

    async def write(
        self, topic: str, key: str, value: bytes, headers: Sequence[tuple[str, bytes]], context: str | None
    ) -> None:
        """A record, whatever it says, to be published in the order of its key."""
        told = [[name, value.decode()] for name, value in headers]
        await self.connection.execute(QUERIES["lock_aggregate"], key)
        await self.connection.execute(QUERIES["say"], topic, key, value, told, context)


@asynccontextmanager
async def unit_of_work(pool: asyncpg.Pool, service: str, cause: Envelope | None = None) -> AsyncIterator[Work]:
    """Open a transaction; it commits when the block ends well and rolls back when it raises."""
    async with pool.acquire() as connection, connection.transaction():
        yield Work(connection=connection, service=service, cause=cause)


async def first_hearing(work: Work, envelope: Envelope) -> bool:
    """Whether this event is new to the service; remembers it with the transaction."""
    return await work.connection.fetchval(QUERIES["hear"], envelope.id) is not None


async def relay(pool: asyncpg.Pool, service: str, producer: AIOKafkaProducer) -> None:
    """Publish the outbox for ever; one relay a service at a time, by an advisory lock on its connection.

    What the broker acknowledged is forgotten; a crash in between says an event twice under one id,
    which inboxes hear once.
    """
    while True:
        try:
            async with pool.acquire() as connection:
                await _lead(connection, service, producer)
        except asyncpg.UndefinedTableError:  # the schema is gone: the service ends, and makes it again when it starts
            raise
        except (*AWAY, asyncpg.PostgresError, KafkaError) as error:
            log.warning("outbox relay: %r; trying again", error)
            await asyncio.sleep(_BACK_OFF_SECONDS)


async def _lead(connection: Connection, service: str, producer: AIOKafkaProducer) -> None:
    if not await connection.fetchval(QUERIES["lead_relay"]):
        await asyncio.sleep(_POLL_SECONDS)
        return
    woken = asyncio.Event()

    def wake(*_: Any) -> None:
        woken.set()

    await connection.add_listener(f"{service}_outbox", wake)
    try:
        while True:
            woken.clear()
            while await publish_once(connection, producer):
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await woken.wait()
    finally:
        with suppress(asyncpg.InterfaceError):  # it has gone, and so has the listener
            await connection.remove_listener(f"{service}_outbox", wake)


async def publish_once(connection: Connection, producer: AIOKafkaProducer) -> int:
    """Publish one bounded batch in order; returns how many events were acknowledged and forgotten."""
    rows = await connection.fetch(QUERIES["to_publish"], _BATCH)
    acknowledgements = []
    for row in rows:
        name = f"publish {row['topic']}"
        attributes = telemetry.messaging_attributes(row["topic"], "send")
        with telemetry.span(name, kind=SpanKind.PRODUCER, parent=row["traceparent"], attributes=attributes):
            headers = [(name, value.encode()) for name, value in row["headers"]]
            if traceparent := telemetry.current_traceparent():
                headers.append(("traceparent", traceparent.encode()))
            acknowledgements.append(
                await producer.send(row["topic"], key=row["key"].encode(), value=row["value"], headers=headers)
            )
    await asyncio.gather(*acknowledgements)
    await connection.execute(QUERIES["published"], [row["position"] for row in rows])
    return len(rows)
