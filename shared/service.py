"""How every service lives: open what it needs, be ready, run until told to stop or until something breaks, close."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from starlette.applications import Starlette

from shared import postgres, telemetry
from shared.bus import Bus, Handlers, outbox_producer
from shared.health import Health, add_health, serve
from shared.kafka import control_topics, ensure_topics
from shared.outbox import relay
from shared.settings import HttpSettings, KafkaSettings, PostgresSettings, TelemetrySettings
from shared.stopping import until_stopped

_CANCEL_AGAIN_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Service:
    """What a running service is made of; background loops are added with `go`."""

    name: str
    kafka: KafkaSettings
    pool: asyncpg.Pool
    health: Health
    loops: list[asyncio.Task[None]] = field(default_factory=list)

    def go(self, name: str, loop: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a loop beside the handlers; when it ends or breaks, the service ends."""
        task = asyncio.create_task(loop, name=name)
        self.loops.append(task)
        return task


@asynccontextmanager
async def open_service(
    name: str,
    *,
    http: HttpSettings,
    migrations: Sequence[Path],
    handlers: Callable[[Service], Handlers],
    app: Starlette | None = None,
    around: Callable[[Service], AbstractAsyncContextManager[None]] | None = None,
) -> AsyncIterator[Service]:
    """Everything open: database migrated, topics there, bus subscribed, outbox relayed, HTTP served.

    `around` opens the service's own parts after the database and before the bus.
    """
    kafka, health = KafkaSettings(), Health()
    async with postgres.open_pool(PostgresSettings(), name) as pool:
        await postgres.migrate(pool, name, [postgres.SHARED_MIGRATIONS, *migrations])
        await ensure_topics(kafka, control_topics(kafka))
        service = Service(name=name, kafka=kafka, pool=pool, health=health)
        async with (
            serve(add_health(app or Starlette(), health), http),
            _started(outbox_producer(kafka, name)) as producer,
            around(service) if around else nullcontext(),
        ):
            bus = Bus(service=name, kafka=kafka, pool=pool, producer=producer, handlers=handlers(service))
            service.go("relay", relay(pool, name, producer))
            await bus.start()
            service.go("bus", _wait(bus.failed))
            health.ready = True
            try:
                yield service
            finally:
                health.ready = False
                await bus.stop()
                await _cancel(service.loops)


async def _wait(failed: Awaitable[None]) -> None:
    await failed


@asynccontextmanager
async def _started(producer: AIOKafkaProducer) -> AsyncIterator[AIOKafkaProducer]:
    while True:
        try:
            await producer.start()
            break
        except KafkaConnectionError as error:
            log.warning("kafka is not up yet: %r", error)
            await asyncio.sleep(0.5)
    try:
        yield producer
    finally:
        await producer.stop()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Until all have ended: a clean-up that fails hides from its loop that it was cancelled."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


def run(name: str, opened: Callable[[], AbstractAsyncContextManager[Service]]) -> None:
    """The body of `python -m services.<name>`: exit 0 when told to stop, 1 with the error in the log otherwise."""
    provider = telemetry.set_up(name, TelemetrySettings())

    async def live() -> None:
        async with opened() as service:
            log.info("%s is ready", name)
            await until_stopped(service.loops)

    try:
        asyncio.run(live())
    except Exception:
        log.exception("%s ends", name)
        sys.exit(1)
    finally:
        provider.shutdown()
