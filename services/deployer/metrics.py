"""Prometheus metrics of the deployer; every name stands in ops/telemetry.yaml first."""

from prometheus_client import Counter, Gauge, Histogram

PREDICTIONS = Counter("modelbus_scorer_predictions_total", "Predictions committed.", ["model", "version", "arm"])
UNSERVED = Counter(
    "modelbus_scorer_unserved_total", "Accepted records consumed before a model had a champion.", ["model"]
)
REFUSED = Counter(
    "modelbus_scorer_refused_total", "Records skipped: they break the stream's contract.", ["stream", "reason"]
)
KEYED_OTHERWISE = Counter(
    "modelbus_scorer_keyed_otherwise_total",
    "Records whose key is not their entity: no order, no label join.",
    ["stream"],
)
NOT_FINITE = Counter(
    "modelbus_scorer_not_finite_total",
    "Records that a version did not answer: its score is no finite number.",
    ["model", "version"],
)
ABORTED = Counter("modelbus_scorer_aborted_total", "Transactions aborted, or offsets refused: answered again.")
LOAD_FAILURES = Counter("modelbus_scorer_load_failures_total", "Versions that could not be loaded.", ["model"])
BATCH_SECONDS = Histogram(
    "modelbus_scorer_batch_seconds",
    "From a batch's first decode to its last answer, with what goes to the client meanwhile.",
)
TRANSACTION_SECONDS = Histogram(
    "modelbus_scorer_transaction_seconds", "From a batch's last answer to its commit, or delivery."
)
LAG = Gauge("modelbus_scorer_lag_records", "Records not yet consumed.", ["stream", "partition"])
REVISION = Gauge("modelbus_scorer_revision", "Rollout revision that this scorer serves.", ["model"])
CORRECTIONS = Counter("modelbus_deployer_corrections_total", "Predictions withdrawn one by one.", ["model"])
ROLLOUTS_ENDED = Counter("modelbus_deployer_rollouts_ended_total", "Rollouts that are over.", ["model", "outcome"])
