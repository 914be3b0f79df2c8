"""One trace a lifecycle, without a span whose parent is missing: asked from Zipkin's API.

https://zipkin.io/zipkin-api/#/default/get_trace__traceId_
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

_ASK_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What Zipkin holds of one trace; `orphans` are spans whose parent it does not hold."""

    trace_id: str
    spans: int
    services: tuple[str, ...]
    orphans: tuple[str, ...]


def trace_of(trace_id: str, spans: Iterable[dict[str, Any]]) -> Trace:
    """Sum up the spans of a trace.

    >>> trace_of("t", [{"id": "a", "name": "x", "localEndpoint": {"serviceName": "monitor"}},
    ...                {"id": "b", "name": "y", "parentId": "c"}]).orphans
    ('y',)
    """
    held = list(spans)
    ids = {span["id"] for span in held}
    services = Counter(span.get("localEndpoint", {}).get("serviceName", "unknown") for span in held)
    orphans = [span.get("name", "") for span in held if span.get("parentId") and span["parentId"] not in ids]
    return Trace(trace_id=trace_id, spans=len(held), services=tuple(sorted(services)), orphans=tuple(orphans))


class Zipkin:
    """The query API of a Zipkin server."""

    def __init__(self, base: str) -> None:
        self._base = base

    def trace(self, trace_id: str) -> Trace:
        """Everything of one trace; no spans when it is not known.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        answer = httpx.get(f"{self._base}/api/v2/trace/{trace_id}", timeout=_ASK_SECONDS)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return trace_of(trace_id, [])
        return trace_of(trace_id, answer.raise_for_status().json())


def zipkin_at(endpoint: str) -> Zipkin:
    """The server whose collector the services send to."""
    return Zipkin(endpoint.removesuffix("/api/v2/spans"))
