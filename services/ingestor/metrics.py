"""Prometheus metrics of the ingestor; every name stands in ops/telemetry.yaml first."""

from prometheus_client import Counter, Histogram

ROWS = Counter("modelbus_ingestor_rows_total", "Rows committed.", ["table"])
UNKEYED = Counter("modelbus_ingestor_unkeyed_total", "Accepted records whose key is not their entity.", ["table"])
COMMIT_SECONDS = Histogram("modelbus_ingestor_commit_seconds", "From a full buffer to a new table version.", ["table"])
COMMIT_FAILURES = Counter(
    "modelbus_ingestor_commit_failures_total", "Commits and announcements that failed, to be tried again.", ["table"]
)
DROPPED = Counter(
    "modelbus_ingestor_dropped_total", "Records dropped to be read again: their partition's place had moved.", ["table"]
)
REMOVED = Counter(
    "modelbus_ingestor_removed_total", "Data files and log entries removed: no kept version needs them.", ["table"]
)
