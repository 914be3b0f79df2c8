"""How good the candidate is: by itself, beside the champion on the same rows, and in the truth of its probabilities."""

from collections.abc import Iterator

import numpy as np

from schemas.specs import Gates, MetricGate, Task
from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import Check, Measured
from shared.quality import HIGHER_IS_BETTER, metrics

_GATED = ("roc_auc", "accuracy", "f1", "log_loss", "brier", "mae", "rmse", "r2")
_ONE_SIDED = 0.90  # the upper end of the central 90 % interval bounds from above with 95 % confidence


def _declared(gates: Gates, metric: str) -> MetricGate | None:
    found: MetricGate | None = getattr(gates, metric)
    return found


def _tasks(metric: str) -> tuple[Task, ...]:
    return tuple(task for task, known in bootstrap.METRICS_OF.items() if metric in known)


class MetricBound(Check):
    """A metric on the held-out rows within its declared bounds: by the point estimate; the reason has the interval."""

    def __init__(self, metric: str) -> None:
        self.name, self.metric, self.tasks = metric, metric, _tasks(metric)

    @classmethod
    def every(cls) -> Iterator[Check]:
        return (cls(metric) for metric in _GATED)

    def asked(self, gates: Gates) -> float | None:
        gate = _declared(gates, self.metric)
        return None if gate is None else gate.min if gate.min is not None else gate.max

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        gate = _declared(evidence.spec.gates, self.metric)
        assert gate
        value, rows = evidence.metrics.get(self.metric, float("nan")), len(evidence.rows.truth)
        low, high = bootstrap.interval(evidence.replicates(self.metric))
        above = gate.max is not None and not value <= gate.max
        below = gate.min is not None and not value >= gate.min
        return Measured(
            value=value,
            threshold=gate.max if above and gate.max is not None else threshold,
            passed=not (above or below),
            reason=f"{self.metric} is {value:.4f} (95 % confidence {low:.4f} to {high:.4f}) on {rows} held-out"
            f" rows; expected {_bounds(gate)}",
            detail={"confidence": [low, high], "rows": rows},
        )


def _bounds(gate: MetricGate) -> str:
    words = [] if gate.min is None else [f"at least {gate.min:g}"]
    return " and ".join(words + ([] if gate.max is None else [f"at most {gate.max:g}"]))


class NotWorseThanChampion(Check):
    """Candidate minus champion on the same resamples of the same rows, turned so that more is better.

    It fails only when the data show that the candidate is worse by more than the tolerance: the upper 95 % confidence
    bound of the difference lies below minus the tolerance. What they cannot tell is left to the rollout, which compares
    both on live events; a stricter rule would refuse half of all equally good candidates.
    """

    needs = ("rows", "champion")

    def __init__(self, metric: str) -> None:
        self.name, self.metric, self.tasks = f"{metric}_vs_champion", metric, _tasks(metric)

    @classmethod
    def every(cls) -> Iterator[Check]:
        return (cls(metric) for metric in _GATED)

    def asked(self, gates: Gates) -> float | None:
        gate = _declared(gates, self.metric)
        return None if gate is None or gate.not_worse_than_champion is None else -gate.not_worse_than_champion

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        rows, sign = evidence.rows, 1 if HIGHER_IS_BETTER[self.metric] else -1
        assert rows.champion is not None
        before = metrics(evidence.task, rows.truth, rows.champion).get(self.metric, float("nan"))
        after = evidence.metrics.get(self.metric, float("nan"))
        ours = evidence.replicates(self.metric)
        theirs = bootstrap.replicates(self.metric, evidence.task, rows.truth, rows.champion, evidence.weights)
        low, high = bootstrap.interval(sign * (ours - theirs), _ONE_SIDED)
        worse = high < threshold
        reason = (
            f"{self.metric} is {after:.4f}, the champion's {before:.4f} on the same {len(rows.truth)} rows; with 95 %"
            f" confidence the candidate is better by at most {high:+.4f}, expected not below {threshold:+.4f}"
        )
        return Measured(
            value=sign * (after - before),
            passed=bool(np.isfinite(high)) and not worse,
            reason=f"{reason} ({rows.champion_note})",
            detail={"candidate": after, "champion": before, "difference_90": [low, high], "rows": len(rows.truth)},
        )


class CalibrationError(Check):
    """Expected calibration error over ten bins of equal width (Naeini et al., AAAI 2015)."""

    name = "calibration_error"
    tasks = ("binary", "multiclass")

    def asked(self, gates: Gates) -> float | None:
        return gates.calibration_error.max if gates.calibration_error else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        value = evidence.metrics[self.name]
        low, high = bootstrap.interval(evidence.replicates(self.name))
        return Measured(
            value=value,
            passed=value <= threshold,
            reason=f"probabilities miss the observed shares by {value:.4f} on average (bootstrap {low:.4f} to"
            f" {high:.4f}); expected at most {threshold:g}",
            detail={"confidence": [low, high]},
        )
