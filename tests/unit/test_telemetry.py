"""Spans arrive, also over a connection that its server closes just when it is used again."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from shared import telemetry
from shared.settings import TelemetrySettings

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def test_spans_sent_on_a_connection_that_is_being_closed_are_sent_again() -> None:
    with collector() as (endpoint, names):
        exporter = telemetry._exporter(TelemetrySettings(traces_exporter="zipkin", exporter_zipkin_endpoint=endpoint))
        assert exporter
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for name in ("first", "second", "third"):
            provider.get_tracer("test").start_span(name).end()
        provider.shutdown()

    assert names == ["first", "second", "third"]


@contextmanager
def collector() -> Iterator[tuple[str, list[str]]]:
    """Takes what is sent first on a connection, leaves it open, and resets it when more is sent; names of its spans."""
    names: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        used = False

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.used:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.close_connection = True
                return
            self.used = True
            names.extend(span["name"] for span in json.loads(body))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v2/spans", names
        finally:
            server.shutdown()
