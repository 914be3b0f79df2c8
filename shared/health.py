"""/livez, /readyz and /metrics of a process, beside whatever routes it serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.settings import HttpSettings

App = TypeVar("App", bound=Starlette)
OPEN_ROUTES = ("/livez", "/readyz", "/metrics")  # say nothing about data; everything else is refused unless granted


class Health:
    """Whether this process lives and may be given work."""

    def __init__(self) -> None:
        self.ready = False
        self.checks: dict[str, Callable[[], bool]] = {}

    def alive(self) -> dict[str, bool]:
        """Each loop's own word that it makes progress."""
        return {name: check() for name, check in self.checks.items()}


def add_health(app: App, health: Health) -> App:
    """Give `app` the three open routes."""

    def livez(_: Request) -> Response:
        alive = health.alive()
        return JSONResponse(alive, 200 if all(alive.values()) else 503)

    def readyz(_: Request) -> Response:
        ready = health.ready and all(health.alive().values())
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for path, answer in zip(OPEN_ROUTES, (livez, readyz, metrics), strict=True):
        app.add_route(path, answer, include_in_schema=False)
    return app


class _Server(uvicorn.Server):
    """Leaves signals to the service."""

    def install_signal_handlers(self) -> None:
        return

    @contextmanager
    def _signals(self) -> Iterator[None]:
        yield

    capture_signals = _signals


@asynccontextmanager
async def serve(app: Starlette, settings: HttpSettings) -> AsyncIterator[int]:
    """Serve `app` while the block runs; yields the port."""
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(), name="http")
    try:
        while not server.started:
            if task.done():
                raise OSError(f"http: cannot listen on {settings.http_host}:{settings.http_port}")
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait({task})
