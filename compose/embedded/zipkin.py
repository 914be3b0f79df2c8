"""Zipkin: traces in memory, UI and query API on one port."""

from pathlib import Path

from compose.embedded import jars
from compose.embedded.folder import LOOPBACK
from compose.embedded.java import bare_environment, java
from compose.embedded.probes import http_answers
from compose.embedded.supervisor import Process

MAX_SPANS = 100_000
LOOKBACK_MS = 10 * 365 * 24 * 3600 * 1000


def zipkin(folder: Path, port: int) -> Process:
    """The server on `port`; what it holds ends with it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (jar,) = jars.class_path(jars.ZIPKIN)
    listen = (f"--armeria.ports[0].port={port}", f"--armeria.ports[0].address={LOOPBACK}")
    return Process(
        name="zipkin",
        argv=java("-XX:TieredStopAtLevel=1", "-jar", str(jar), *listen, heap_mb=256, part="zipkin"),
        environment=bare_environment(
            STORAGE_TYPE="mem", MEM_MAX_SPANS=str(MAX_SPANS), QUERY_LOOKBACK=str(LOOKBACK_MS), TMPDIR=str(folder)
        ),
        folder=folder,
        ready=lambda: http_answers(port, "/health"),
        grace_seconds=5,
    )
