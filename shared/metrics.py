"""Prometheus metrics of the plumbing; every name stands in ops/telemetry.yaml first."""

from prometheus_client import Counter, Histogram

EVENTS_HANDLED = Counter("modelbus_events_handled_total", "Lifecycle events handled.", ["service", "topic"])
DEAD_LETTERS = Counter("modelbus_dead_letters_total", "Records parked as dead letters.", ["service", "reason"])
JOBS_ENDED = Counter("modelbus_jobs_ended_total", "Jobs that are over, done or with a reason.", ["kind", "outcome"])
JOB_ATTEMPT_SECONDS = Histogram(
    "modelbus_job_attempt_seconds",
    "From a job's start to its outcome or crash.",
    ["kind"],
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
)
