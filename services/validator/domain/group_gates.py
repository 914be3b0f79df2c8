"""For whom the candidate is good: quality per slice, and whether sensitive groups are treated alike."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Gates
from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import Check, Measured
from shared.quality import main_metric, metrics

_ONE_SIDED = 0.90
_LEAST_GROUP_ROWS = 50  # a rate of fewer rows says nothing
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
        found = [
            {"feature": group.feature, "value": value, **_gap(evidence, rows)}
            for group in declared
            for value, rows in group.members().items()
            if rows.any()
        ]
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


def _gap(evidence: Evidence, rows: Rows) -> dict[str, Any]:
    """By how much a slice is worse; `gap` is None where it is not judged."""
    gate, (metric, higher_is_better) = evidence.spec.gates.slices, main_metric(evidence.task)
    truth, answers, drawn = evidence.rows.truth, evidence.rows.answers, evidence.weights
    inside = metrics(evidence.task, truth[rows], answers[rows])
    count = int(rows.sum())
    found: dict[str, Any] = {"rows": count, "metrics": inside, "gap": None}
    if gate is None or count < gate.min_rows or metric not in inside or metric not in evidence.metrics:
        return found
    sign = 1 if higher_is_better else -1
    whole = bootstrap.replicates(metric, evidence.task, truth, answers, drawn)
    part = bootstrap.replicates(metric, evidence.task, truth[rows], answers[rows], drawn[:, rows])
    low, _ = bootstrap.interval(sign * (whole - part), _ONE_SIDED)
    return found | {"gap": sign * (evidence.metrics[metric] - inside[metric]), "at_least": low}


class Fairness(Check):
    """How differently a classifier answers the groups of each feature with `sensitive: true`.

    With ŷ the answered class, y the truth and a the group:
    demographic parity difference = max over a of P(ŷ = 1 | a) − min over a of P(ŷ = 1 | a);
    equalised odds difference = the larger of the same difference for P(ŷ = 1 | y = 1, a) and P(ŷ = 1 | y = 0, a).
    With more than two classes each is taken one against the rest, and the largest counts. Rates of fewer than 50 rows
    are left out. Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning, NeurIPS 2016.
    """

    tasks = ("binary", "multiclass")

    def __init__(self, criterion: str) -> None:
        self.name, self.criterion = f"fairness_{criterion}", criterion

    @classmethod
    def every(cls) -> Iterator[Check]:
        return (cls(criterion) for criterion in ("demographic_parity", "equalized_odds"))

    def asked(self, gates: Gates) -> float | None:
        limit: float | None = getattr(gates.fairness, self.criterion, None)
        return limit

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        sensitive = [group for group in evidence.rows.groups if group.sensitive]
        if not sensitive:
            return Measured(
                value=None, passed=False, reason=f"{self.name}: no feature of the stream has `sensitive: true`"
            )
        truth, said = evidence.rows.truth.astype(np.intp), bootstrap.answered(evidence.rows.answers)
        found = {
            group.feature: differences(truth, said, evidence.rows.answers.shape[1], group.members())[self.criterion]
            for group in sensitive
        }
        feature, value = max(found.items(), key=lambda item: _size(item[1]))
        if value["difference"] is None:
            reason = f"{self.name}: of each sensitive feature {value['between']}"
            return Measured(value=None, passed=None, reason=reason, detail={"features": found})
        return Measured(
            value=value["difference"],
            passed=value["difference"] <= threshold,
            reason=f"{self.criterion.replace('_', ' ')} differs by {value['difference']:.4f} between the groups of"
            f" {feature} ({value['between']}); expected at most {threshold:g}",
            detail={"features": found},
        )


def differences(truth: Any, said: Any, classes: int, groups: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Both criteria for one sensitive feature: the difference, and between which groups.

    >>> groups = {"a": np.arange(200) < 100, "b": np.arange(200) >= 100}
    >>> truth, said = np.arange(200) % 2, np.repeat([1, 0], 100)
    >>> differences(truth, said, 2, groups)["demographic_parity"]["difference"]
    1.0
    """
    parity, odds = [], []
    for each in [1] if classes == 2 else range(classes):
        chosen = np.asarray(said) == each
        actual = np.asarray(truth) == each
        parity.append(_spread(chosen, groups, np.ones(len(chosen), dtype=bool)))
        odds += [_spread(chosen, groups, actual), _spread(chosen, groups, ~actual)]
    return {"demographic_parity": _largest(parity), "equalized_odds": _largest(odds)}


def _largest(spreads: list[dict[str, Any]]) -> dict[str, Any]:
    return max(spreads, key=_size)


def _size(spread: Mapping[str, Any]) -> float:
    return -1.0 if spread["difference"] is None else float(spread["difference"])


def _spread(chosen: Rows, groups: Mapping[str, Rows], among: Rows) -> dict[str, Any]:
    """Highest minus lowest rate of `chosen` over the groups, of the rows `among`."""
    counts = {name: int((rows & among).sum()) for name, rows in groups.items()}
    rates = {
        name: float(chosen[rows & among].mean()) for name, rows in groups.items() if counts[name] >= _LEAST_GROUP_ROWS
    }
    if len(rates) < 2:
        return {"difference": None, "between": f"fewer than two groups have {_LEAST_GROUP_ROWS} rows", "rates": rates}
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    between = f"{rates[high]:.4f} for {high}, {rates[low]:.4f} for {low}"
    return {"difference": rates[high] - rates[low], "between": between, "rates": rates}
