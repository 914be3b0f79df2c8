"""Prometheus metrics of the plumbing; every name stands in ops/telemetry.yaml first."""

from prometheus_client import Counter

EVENTS_HANDLED = Counter("modelbus_events_handled_total", "Lifecycle events handled.", ["service", "topic"])
DEAD_LETTERS = Counter("modelbus_dead_letters_total", "Records parked as dead letters.", ["service", "reason"])
