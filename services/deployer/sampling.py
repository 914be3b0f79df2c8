"""Spans of the hot path: at most one a second, linked to the producers that sent a trace along."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice

from opentelemetry import trace

from services.deployer.places import Record, Where
from shared import telemetry
from shared.reading import headers_of

_EVERY_SECONDS = 1.0
_LINKS = 8


class BatchSpans:
    """One batch span a second; a span for each event would cost more than its answer."""

    def __init__(self) -> None:
        self._last = 0.0

    @contextmanager
    def around(self, batch: Mapping[Where, Sequence[Record]]) -> Iterator[None]:
        """Trace this batch when it is its turn."""
        now = time.monotonic()
        if not batch or now - self._last < _EVERY_SECONDS:
            yield
            return
        self._last = now
        count = sum(map(len, batch.values()))
        with telemetry.span("score batch", attributes={"messaging.batch.message_count": count}) as span:
            for message in islice(chain.from_iterable(batch.values()), _LINKS):
                sent = dict(headers_of(message)).get("traceparent")
                if sent and (context := telemetry.context_of(sent.decode(errors="replace"))):
                    span.add_link(trace.get_current_span(context).get_span_context())
            yield
