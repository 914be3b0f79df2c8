"""What every process answers, and that it answers nothing else."""

from unittest.mock import patch

import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.routing import Route

from shared.access import bare_app
from shared.health import OPEN_ROUTES, Health, add_health


def test_a_process_without_routes_of_its_own_has_the_open_ones_only() -> None:
    app = add_health(bare_app("a service"), Health())

    assert {route.path for route in app.routes if isinstance(route, Route)} == set(OPEN_ROUTES)


async def test_a_probe_makes_no_span() -> None:
    exporter, health = InMemorySpanExporter(), Health()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = add_health(bare_app("a service"), health)
    with patch.object(trace, "get_tracer_provider", lambda: provider):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://process") as client:
            assert (await client.get("/livez")).status_code == 200

    assert exporter.get_finished_spans() == ()
