"""/livez, /readyz and /metrics of a process, beside whatever routes it serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import BaseRoute

from shared.settings import HttpSettings

OPEN_ROUTES = ("/livez", "/readyz", "/metrics")  # say nothing about data; everything else is refused unless granted


class Health:
    """Whether this process lives and may be given work."""

    def __init__(self) -> None:
        self.ready = False
        self.checks: dict[str, Callable[[], bool]] = {}

    def alive(self) -> dict[str, bool]:
        """Each loop's own word that it makes progress."""
        return {name: check() for name, check in self.checks.items()}


def bare_app(title: str = "modelbus", routes: Sequence[BaseRoute] = ()) -> FastAPI:
    """An application with these routes alone, not even FastAPI's documentation, and without spans but our own.

    FastAPI would make one for every request, probes too.
    """
    return FastAPI(
        title=title,
        routes=list(routes),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


def add_health(app: FastAPI, health: Health) -> FastAPI:
    """Give `app` the three open routes."""

    @app.get("/livez", include_in_schema=False)
    def livez(response: Response) -> dict[str, bool]:
        alive = health.alive()
        response.status_code = 200 if all(alive.values()) else 503
        return alive

    @app.get("/readyz", include_in_schema=False)
    def readyz(response: Response) -> dict[str, bool]:
        ready = health.ready and all(health.alive().values())
        response.status_code = 200 if ready else 503
        return {"ready": ready}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

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
async def serve(app: FastAPI, settings: HttpSettings) -> AsyncIterator[int]:
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
