"""Traces, metrics and logs. Spans are made here by hand; metric names are registered in ops/telemetry.yaml first."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import TelemetrySettings

_PROPAGATOR = TraceContextTextMapPropagator()
_EXPORT_EVERY_MILLISECONDS = 500
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


class JsonLines(logging.Formatter):
    """One JSON object a line, with the trace id where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        context = trace.get_current_span().get_span_context()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "trace_id": f"{context.trace_id:032x}" if context.is_valid else None,
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return json.dumps({name: value for name, value in line.items() if value is not None})


def set_up(service: str, settings: TelemetrySettings) -> TracerProvider:
    """Install logging and the tracer provider for this process; the caller shuts the provider down."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("aiokafka", "httpx", "urllib3", "faststream"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.namespace": "modelbus"}))
    if exporter := _exporter(settings):
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MILLISECONDS))
    trace.set_tracer_provider(provider)
    return provider


def _exporter(settings: TelemetrySettings) -> SpanExporter | None:
    """Each exporter is imported only where it is asked for: they are heavy."""
    if settings.traces_exporter == "zipkin":
        from opentelemetry.exporter.zipkin.json import ZipkinExporter  # noqa: PLC0415
        from requests import Session  # noqa: PLC0415
        from requests.adapters import HTTPAdapter  # noqa: PLC0415
        from urllib3 import Retry  # noqa: PLC0415

        # a server closes a connection that has been idle, also just when spans are sent on it; sent twice, they are one
        session, again = Session(), Retry(1, connect=0, allowed_methods=None, respect_retry_after_header=False)
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=again))
        return ZipkinExporter(endpoint=settings.exporter_zipkin_endpoint, session=session)
    if settings.traces_exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return OTLPSpanExporter()
    return None


def current_traceparent() -> str | None:
    """The W3C trace context of the current span, to be stored with a row or sent in a header."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def context_of(traceparent: str | None) -> Context | None:
    """The context that a stored or received `traceparent` names."""
    return _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    link: bool = False,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """A span; `parent` is a `traceparent` (None: the current span), also linked when `link` is set."""
    context = context_of(parent)
    links = [Link(trace.get_current_span(context).get_span_context())] if link and context else None
    tracer = trace.get_tracer("modelbus")
    with tracer.start_as_current_span(name, context, kind=kind, links=links, attributes=attributes) as opened:
        try:
            yield opened
        except Exception as error:
            opened.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
            raise


def messaging_attributes(
    topic: str, operation: str, partition: int | None = None, offset: int | None = None
) -> Attributes:
    """Attributes of a Kafka span, by OpenTelemetry's semantic conventions for messaging."""
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.type": operation,
    }
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
    if offset is not None:
        attributes["messaging.kafka.offset"] = offset
    return attributes
