"""A scorer: `python -m services.deployer.scorer --slot N`. Kafka and S3 only; its state is the offsets it commits."""

import argparse
import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette

from services.deployer.settings import ScorerSettings
from services.deployer.stream import GUARANTEES, Stream
from services.deployer.view import View
from shared import telemetry
from shared.errors import Fatal
from shared.health import Health, add_health, serve
from shared.kafka import control_topics, ensure_topics
from shared.objects import Objects
from shared.settings import KafkaSettings, S3Settings, SigningSettings, TelemetrySettings
from shared.stopping import until_stopped

_CHECK_SECONDS = 0.5
_TIDY_SECONDS = 10.0
log = logging.getLogger(__name__)


class _Loop:
    """A loop in a thread of its own: a daemon, so that one that hangs cannot keep the process."""

    def __init__(self, name: str, run: Callable[[Callable[[], bool]], None]) -> None:
        self._stop = threading.Event()
        self._ended = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[Callable[[], bool]], None]) -> None:
        failure: BaseException | None = None
        try:
            run(self._stop.is_set)
        except BaseException as error:  # the service's task raises it
            failure = error
        self._loop.call_soon_threadsafe(self._end, failure)

    def _end(self, failure: BaseException | None) -> None:
        if failure is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(failure)

    async def ended(self) -> None:
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        self._stop.set()
        await self.ended()


@asynccontextmanager
async def opened(settings: ScorerSettings, slot: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The scorer running; yields what to wait for."""
    kafka, health = KafkaSettings(), Health()
    await ensure_topics(kafka, control_topics(kafka))
    view = View(kafka=kafka, objects=Objects(S3Settings()), signing=SigningSettings(), slot=slot)
    streams = [Stream(kafka=kafka, settings=settings, slot=slot, view=view, guarantee=each) for each in GUARANTEES]
    oldest, loops = settings.stalled_after_seconds, list[View | Stream]([view, *streams])
    health.checks["loops"] = lambda: all(time.monotonic() - loop.beat < oldest for loop in loops)
    async with serve(add_health(Starlette(), health), settings.port_of(slot)):
        following, serving = _Loop("view", view.run), [_Loop(each.name, each.run) for each in streams]
        ends = [loop.ended() for loop in (following, *serving)]
        yield [asyncio.create_task(each) for each in (*ends, _watch(health, streams), _tidy())]
        health.ready = False
        for loop in serving:
            await loop.stop()
        await following.stop()


async def _watch(health: Health, streams: Sequence[Stream]) -> None:
    """Readiness from the first assignment on; a loop that stalls ends the process.

    Raises:
        Fatal: no progress.
    """
    while all(health.alive().values()):
        health.ready = all(stream.assigned for stream in streams)
        await asyncio.sleep(_CHECK_SECONDS)
    raise Fatal("a loop makes no progress")


async def _tidy() -> None:
    """Look for garbage in cycles at times of our own: looking after every 700 headers costs a tenth of an answer."""
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        gc.collect()


def main() -> None:
    """Exit 0 when told to stop, 1 with the error in the log otherwise."""
    parser = argparse.ArgumentParser(prog="python -m services.deployer.scorer")
    parser.add_argument("--slot", type=int, required=True, help="which scorer this is; no two may run with the same")
    slot = parser.parse_args().slot
    provider = telemetry.set_up("scorer", TelemetrySettings())

    async def live() -> None:
        async with opened(ScorerSettings(), slot) as loops:
            log.info("scorer %s is up", slot)
            await until_stopped(loops)

    try:
        asyncio.run(live())
    except Exception:
        log.exception("scorer %s ends", slot)
        provider.shutdown()
        os._exit(1)  # at once: a client that waits for a broker must not keep a fenced process alive
    provider.shutdown()


if __name__ == "__main__":
    main()
