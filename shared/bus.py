"""The control plane: FastStream on aiokafka, with our own delivery.

A record is handled in one transaction and then acknowledged. A fault is retried with bounded back-off and then parked
as a dead letter; a record that can be neither handled nor parked, or that speaks an unknown major version, ends the
process, so nothing is lost and nothing is skipped.
"""

import asyncio
import dataclasses
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError
from faststream import AckPolicy, BaseMiddleware
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from faststream.kafka.security import parse_security
from faststream.message import StreamMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512
from opentelemetry.trace import SpanKind

from schemas import envelope
from schemas.envelope import Envelope, NotAnEvent, UnknownMajor
from schemas.events.base import Event
from schemas.topics import DEAD_LETTER_ROOM_BYTES, DEAD_LETTERS, MAX_RECORD_BYTES, LifecycleTopic
from shared import metrics, telemetry
from shared.dead_letters import DeadLetter, Origin, Reason
from shared.errors import DeadLetterFailed, Fatal, TooEarly
from shared.outbox import Work, first_hearing, unit_of_work
from shared.postgres import AWAY
from shared.settings import KafkaSettings

Handler = Callable[[Any, Work], Awaitable[None]]
Handlers = Mapping[LifecycleTopic, Mapping[type[Event], Handler]]

ATTEMPTS = 8
TOO_EARLY_ATTEMPTS = 60
_FIRST_BACK_OFF_SECONDS = 0.1
_LONGEST_BACK_OFF_SECONDS = 2.0
_SESSION_MILLISECONDS = 6_000  # the least that brokers allow by default: so long a killed member's partitions wait
_MECHANISMS: Final[dict[str, Any]] = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}
log = logging.getLogger(__name__)


class Bus:
    """One service's ears on the lifecycle topics; its mouth is the outbox."""

    def __init__(
        self,
        *,
        service: str,
        kafka: KafkaSettings,
        pool: asyncpg.Pool,
        producer: AIOKafkaProducer,
        handlers: Handlers,
    ) -> None:
        self._service = service
        self._replica = kafka.replica
        self._pool = pool
        self._producer = producer
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._broker = KafkaBroker(
            kafka.bootstrap_servers,
            apply_types=False,
            allow_auto_create_topics=False,
            logger=None,
            client_id=f"modelbus-{service}",
            security=login(kafka),
        )
        self._broker.add_middleware(lambda message, context: _Delivery(message, context=context, bus=self))
        for topic, table in handlers.items():
            self._subscribe(topic, table)

    async def start(self) -> None:
        """Join all groups at the same time: each waits until the broker has given up a member that was killed."""
        await self._broker.connect()
        async with asyncio.TaskGroup() as joining:
            for subscriber in self._broker.subscribers:
                joining.create_task(subscriber.start())

    async def stop(self) -> None:
        await self._broker.stop()

    def _subscribe(self, topic: LifecycleTopic, table: Mapping[type[Event], Handler]) -> None:
        """One consumer a topic, so that an event may wait for one of another topic without blocking it."""
        subscriber = self._broker.subscriber(
            topic.name,
            group_id=f"modelbus.{self._service}.{topic.writer}",
            group_instance_id=self._replica,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            ack_policy=AckPolicy.MANUAL,
            parser=_parse,
            decoder=_decode,
            fetch_max_wait_ms=200,
            session_timeout_ms=_SESSION_MILLISECONDS,
            heartbeat_interval_ms=_SESSION_MILLISECONDS // 3,
        )

        async def handle(said: Envelope | None) -> None:
            if said is not None and (handler := table.get(type(said.event))):
                await self._handle(handler, said)

        subscriber(handle)

    async def _handle(self, handler: Handler, said: Envelope) -> None:
        async with unit_of_work(self._pool, self._service, said) as work:
            if await first_hearing(work, said):
                await handler(said.event, work)

    async def deliver(self, record: ConsumerRecord, attempt: Callable[[], Awaitable[Any]]) -> None:
        """Try until it is handled or parked; while Postgres is away, wait for it and count nothing.

        Raises:
            Fatal: it can be neither, or must not be.
        """
        number = 1
        while True:
            try:
                await attempt()
                metrics.EVENTS_HANDLED.labels(self._service, record.topic).inc()
                return
            except UnknownMajor as error:
                raise Fatal(f"{record.topic}[{record.partition}]@{record.offset}: {error}") from error
            except NotAnEvent as error:
                await self._park(record, "poison", error, number)
                return
            except Fatal:
                raise
            except asyncpg.UndefinedTableError as error:  # the schema is gone: whoever starts anew makes it again
                raise Fatal(f"{record.topic}@{record.offset}: {error}") from error
            except AWAY as error:
                log.warning("%s@%s waits for Postgres: %r", record.topic, record.offset, error)
                await asyncio.sleep(_LONGEST_BACK_OFF_SECONDS)
                continue
            except Exception as error:
                if number >= (TOO_EARLY_ATTEMPTS if isinstance(error, TooEarly) else ATTEMPTS):
                    await self._park(record, "exhausted", error, number)
                    return
                log.warning("%s@%s: attempt %s: %r", record.topic, record.offset, number, error, exc_info=number == 1)
            await asyncio.sleep(min(_FIRST_BACK_OFF_SECONDS * 2 ** (number - 1), _LONGEST_BACK_OFF_SECONDS))
            number += 1

    async def _park(self, record: ConsumerRecord, reason: Reason, error: Exception, attempts: int) -> None:
        origin = Origin(
            topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp
        )
        letter = DeadLetter(
            origin=origin,
            service=self._service,
            reason=reason,
            error=f"{type(error).__name__}: {error}",
            attempts=attempts,
            original_headers=record.headers,
        )
        try:
            await self._producer.send_and_wait(
                DEAD_LETTERS, key=record.key, value=record.value, headers=letter.headers()
            )
        except KafkaError as failure:
            raise DeadLetterFailed(f"{origin}: {failure!r}") from failure
        metrics.DEAD_LETTERS.labels(self._service, reason).inc()
        log.error("%s@%s parked as %s: %r", record.topic, record.offset, reason, error)

    async def stop_for_good(self, error: Exception) -> None:
        """Tell the service to end, and hold this partition until it does."""
        if not self.failed.done():
            self.failed.set_exception(error)
        await asyncio.Event().wait()


class _Delivery(BaseMiddleware[Any, Any]):
    """Trace, try, retry, park, acknowledge: around every record."""

    def __init__(self, message: Any, /, *, context: Any, bus: Bus) -> None:
        super().__init__(message, context=context)
        self._bus = bus

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: StreamMessage[Any]) -> None:
        record = msg.raw_message
        attributes = telemetry.messaging_attributes(record.topic, "process", record.partition, record.offset)
        kind = msg.headers.get("ce_type", "unreadable").removeprefix("modelbus.")
        name, parent = f"process {kind}", msg.headers.get("traceparent")
        try:
            with telemetry.span(name, kind=SpanKind.CONSUMER, parent=parent, link=True, attributes=attributes):
                await self._bus.deliver(record, lambda: call_next(msg))
        except Exception as error:  # whatever it was, the record was not handled: the process must not go on
            await self._bus.stop_for_good(error)
        with suppress(KafkaError):  # not acknowledged: heard again, and known by the inbox
            await msg.ack()


async def _parse(record: ConsumerRecord, original: Callable[[ConsumerRecord], Awaitable[Any]]) -> Any:
    """As FastStream does, but headers that are not UTF-8 must reach delivery, not break it."""
    plain = [(name, (value or b"").decode(errors="replace").encode()) for name, value in record.headers]
    parsed: KafkaAckableMessage = await original(dataclasses.replace(record, headers=tuple(plain)))
    parsed.raw_message = record
    return parsed


async def _decode(message: StreamMessage[ConsumerRecord]) -> Envelope | None:
    record = message.raw_message
    return envelope.read(record.headers, record.value or b"")


def outbox_producer(kafka: KafkaSettings, service: str) -> AIOKafkaProducer:
    """The producer of a service's relay: idempotent, so that retries neither repeat nor reorder."""
    return AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=f"modelbus-{service}-outbox",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES + DEAD_LETTER_ROOM_BYTES,
        **parse_security(login(kafka)),
    )


def login(kafka: KafkaSettings) -> BaseSecurity | None:
    """How FastStream and aiokafka log in; librdkafka's twin is `KafkaSettings.librdkafka`."""
    if kafka.security_protocol == "PLAINTEXT":
        return None
    tls = kafka.security_protocol.endswith("SSL")
    context = ssl.create_default_context(cafile=kafka.ssl_ca_file) if tls else None
    if not kafka.security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=tls)
    password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
    mechanism: type[SASLPlaintext] = _MECHANISMS[kafka.sasl_mechanism]
    return mechanism(username=kafka.sasl_username or "", password=password, ssl_context=context, use_ssl=tls)
