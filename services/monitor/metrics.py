"""What the monitor shows of itself; every name stands in ops/telemetry.yaml first."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from schemas.events.monitor import WindowMeasured
from services.monitor.domain.facts import ModelFacts
from services.monitor.domain.state import StreamState
from services.monitor.words import Word

PREDICTIONS = Gauge("modelbus_monitor_predictions", "Distinct served predictions heard of.", ["model"])
JOINED = Gauge("modelbus_monitor_joined", "Predictions that have their label.", ["model"])
PENDING = Gauge("modelbus_monitor_pending", "Predictions that wait for their label.", ["model"])
EXPIRED = Gauge("modelbus_monitor_expired", "Predictions whose label did not come.", ["model"])
SAMPLED_OUT = Gauge(
    "modelbus_monitor_sampled_out", "Predictions left out by id: beyond the cap, or what can be read.", ["model"]
)
LABELS = Gauge("modelbus_monitor_labels", "Labels that joined nothing new.", ["model", "fate"])
REFUSED = Gauge("modelbus_monitor_refused_predictions", "Prediction records that could not be read.", ["model"])
CLOCK = Gauge("modelbus_monitor_clock_seconds", "Event time the monitor has come to, since 1970.", ["stream"])
IMPLAUSIBLE = Gauge("modelbus_monitor_implausible", "Records too far ahead of time to be believed.", ["stream"])
SAMPLING = Gauge("modelbus_monitor_sampling", "One in so many predictions is measured.", ["stream"])
LAG = Gauge(
    "modelbus_monitor_lag_records", "Records of a topic that the last round saw and did not take in.", ["topic"]
)
WANTED = Gauge(
    "modelbus_monitor_wanted_runs", "Training requests that wait until the tables hold their cut.", ["model"]
)
QUALITY = Gauge(
    "modelbus_monitor_quality",
    "Of a version's newest window; kind is realised (matured labels) or estimated (none).",
    ["model", "version", "metric", "kind"],
)
WORDS = Counter("modelbus_monitor_said_total", "Events said about the data plane.", ["event"])
ROUND = Histogram("modelbus_monitor_round_seconds", "One round of a stream: read, take in, decide.", ["stream"])


def show(stream: str, state: StreamState, waiting: Mapping[str, int]) -> None:
    """The state as gauges, and how many records of each topic wait."""
    for topic, records in waiting.items():
        LAG.labels(topic).set(records)
    CLOCK.labels(stream).set((state.matured_until or 0) / 1e6)
    IMPLAUSIBLE.labels(stream).set(state.clock.implausible)
    SAMPLING.labels(stream).set(1 << state.sampling)
    for name, model in state.models.items():
        counts = model.join.counts
        PREDICTIONS.labels(name).set(counts.predictions)
        REFUSED.labels(name).set(model.refused)
        JOINED.labels(name).set(counts.joined)
        PENDING.labels(name).set(counts.pending)
        EXPIRED.labels(name).set(counts.expired)
        SAMPLED_OUT.labels(name).set(counts.sampled_out)
        LABELS.labels(name, "repeated").set(counts.labels_repeated)
        LABELS.labels(name, "conflicting").set(counts.labels_conflicting)
        LABELS.labels(name, "orphaned").set(counts.labels_orphaned)


def wanted(models: Mapping[str, ModelFacts]) -> None:
    for name, model in models.items():
        WANTED.labels(name).set(model.run is not None and model.run.state == "wanted")


def said(words: list[Word]) -> None:
    for word in words:
        WORDS.labels(word.event.event).inc()
        if isinstance(word.event, WindowMeasured):
            _quality(word.event)


def _quality(window: WindowMeasured) -> None:
    estimated = window.estimated.metrics if window.estimated else {}
    for kind, metrics in (("realised", window.quality.metrics), ("estimated", estimated)):
        for name, value in metrics.items():
            QUALITY.labels(window.model, str(window.version), name, kind).set(value)
