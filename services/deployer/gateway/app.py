"""Wiring of the gateway: the scorers' view of who serves, the exchange with the bus, and the HTTP API."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.deployer.gateway import metrics
from services.deployer.gateway.answering import Answering
from services.deployer.gateway.api import OPEN, api
from services.deployer.gateway.exchange import Exchange
from services.deployer.settings import GatewaySettings
from services.deployer.view import View
from shared.access import check_routes
from shared.errors import Fatal
from shared.health import Health, add_health, serve
from shared.kafka import control_topics, ensure_topics
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings, SigningSettings

_CHECK_SECONDS = 0.2
_STALLED_SECONDS = 60.0
_SLOT = -1  # the view is a scorer's; no scorer has this slot


@asynccontextmanager
async def opened(settings: GatewaySettings) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The gateway running; yields what to wait for."""
    kafka, health = KafkaSettings(), Health()
    await ensure_topics(kafka, control_topics(kafka))
    view, exchange = (
        View(kafka=kafka, objects=Objects(S3Settings()), signing=SigningSettings(), slot=_SLOT),
        Exchange(kafka, settings),
    )
    health.checks["loops"] = lambda: all(time.monotonic() - each.beat < _STALLED_SECONDS for each in (view, exchange))
    metrics.IN_FLIGHT.set_function(lambda: exchange.in_flight)
    app = add_health(api(settings, health, Answering(view, exchange)), health)
    check_routes(app, OPEN)
    stopped = threading.Event()
    loops = [_thread(view.run, stopped), _thread(exchange.run, stopped)]
    try:
        async with serve(app, settings):
            yield [*loops, asyncio.create_task(_watch(health, view))]
            health.ready = False
    finally:
        stopped.set()
    await asyncio.gather(*loops)


def _thread(run: Callable[[Callable[[], bool]], None], stopped: threading.Event) -> asyncio.Task[None]:
    return asyncio.create_task(asyncio.to_thread(run, stopped.is_set))


async def _watch(health: Health, view: View) -> None:
    """Readiness once all is heard; that a version does not load is the scorers' to say.

    Raises:
        Fatal: no progress.
    """
    while all(health.alive().values()):
        health.ready = view.complete
        while not view.asides.empty():
            view.asides.get()
        await asyncio.sleep(_CHECK_SECONDS)
    raise Fatal("a loop makes no progress")
