"""For whom the candidate is good: quality in each declared slice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Gates
from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence, Group
from services.validator.domain.gate import Check, Measured
from shared.quality import main_metric, metrics

_ONE_SIDED = 0.90
_MIN_ROWS = 200  # where no gate says another
Rows = NDArray[np.bool_]


class Slices(Check):
    """The main metric in each value of the features with `slice: true`, against all rows.

    A slice fails when it falls short by more than the largest allowed gap with 95 % confidence: among many slices some
    look bad by chance. Slices below min_rows, or with one class only, are listed in the report and not judged.
    """

    name = "slices"

    def asked(self, gates: Gates) -> float | None:
        return gates.slices.max_gap if gates.slices else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        declared = [group for group in evidence.rows.groups if group.slice]
        if not declared:
            return Measured(value=None, passed=False, reason="slices: no feature of the stream has `slice: true`")
        found = slices(evidence, declared)
        judged = [each for each in found if each["gap"] is not None]
        if not judged:
            return Measured(value=None, passed=None, reason=_too_small(evidence), detail={"slices": found})
        worst = max(judged, key=lambda each: (each["at_least"] > threshold, each["gap"]))
        metric, _ = main_metric(evidence.task)
        return Measured(
            value=worst["gap"],
            passed=worst["at_least"] <= threshold,
            reason=f"{metric} of {worst['feature']}={worst['value']} ({worst['rows']} rows) is worse than of all rows"
            f" by {worst['gap']:.4f}, with 95 % confidence by at least {worst['at_least']:.4f};"
            f" expected at most {threshold:g}",
            detail={"slices": found},
        )


def _too_small(evidence: Evidence) -> str:
    gate = evidence.spec.gates.slices
    assert gate
    return f"slices: none has {gate.min_rows} of the {len(evidence.rows.truth)} held-out rows and both outcomes"


def slices(evidence: Evidence, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Each value of each group that occurs: rows, metrics, and by how much it is worse."""
    least = evidence.spec.gates.slices.min_rows if evidence.spec.gates.slices else _MIN_ROWS
    return [
        {"feature": group.feature, "value": value, **_gap(evidence, rows, least)}
        for group in groups
        for value, rows in group.members().items()
        if rows.any()
    ]


def _gap(evidence: Evidence, rows: Rows, min_rows: int) -> dict[str, Any]:
    """By how much a slice is worse; `gap` is None where it is not judged."""
    metric, higher_is_better = main_metric(evidence.task)
    truth, answers, drawn = evidence.rows.truth, evidence.rows.answers, evidence.weights
    inside = metrics(evidence.task, truth[rows], answers[rows])
    count = int(rows.sum())
    found: dict[str, Any] = {"rows": count, "metrics": inside, "gap": None}
    if count < min_rows or metric not in inside or metric not in evidence.metrics:
        return found
    sign = 1 if higher_is_better else -1
    whole = evidence.replicates(metric)
    part = bootstrap.replicates(metric, evidence.task, truth[rows], answers[rows], drawn[:, rows])
    low, _ = bootstrap.interval(sign * (whole - part), _ONE_SIDED)
    gap = sign * (evidence.metrics[metric] - inside[metric])
    return found | {"gap": gap, "at_least": low, "confidence": list(bootstrap.interval(part))}
