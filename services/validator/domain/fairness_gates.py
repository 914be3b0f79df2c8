"""Whether the groups of sensitive features are treated alike, by fairlearn's rates."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from numpy.typing import NDArray

from schemas.specs import Gates
from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence, Group
from services.validator.domain.gate import Check, Measured
from shared.quality import Floats

_ONE_SIDED = 0.90
_LEAST_GROUP_ROWS = 50  # a rate of fewer rows says nothing
_RATES: Mapping[str, Mapping[str, Any]] = {
    "demographic_parity": {"share that is answered with": selection_rate},
    "equalized_odds": {
        "share of hits among the true": true_positive_rate,
        "share of false alarms among the others": false_positive_rate,
    },
}
Rows = NDArray[np.bool_]
Codes = NDArray[np.intp]


class Fairness(Check):
    """How differently a classifier answers the groups of each feature with `sensitive: true`.

    With ŷ the answered class (as scorers answer, by the costs' threshold), y the truth and a the group:
    demographic parity difference = max over a of P(ŷ = 1 | a) − min over a of P(ŷ = 1 | a);
    equalised odds difference = the larger of the same difference for P(ŷ = 1 | y = 1, a) and P(ŷ = 1 | y = 0, a).
    With more than two classes each is taken one against the rest, and the largest counts. Rates of fewer than 50 rows
    are left out. It fails when the two groups differ by more than the threshold with 95 % confidence: among many groups
    some differ by chance. Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning, NeurIPS 2016.
    """

    tasks = ("binary", "multiclass")

    def __init__(self, criterion: str) -> None:
        self.name, self.criterion = f"fairness_{criterion}", criterion

    @classmethod
    def every(cls) -> Iterator[Check]:
        return (cls(criterion) for criterion in _RATES)

    def asked(self, gates: Gates) -> float | None:
        limit: float | None = getattr(gates.fairness, self.criterion, None)
        return limit

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        sensitive = [group for group in evidence.rows.groups if group.sensitive]
        if not sensitive:
            return Measured(
                value=None, passed=False, reason=f"{self.name}: no feature of the stream has `sensitive: true`"
            )
        found = [each for group in sensitive for each in gaps(evidence, group, self.criterion)]
        if not found:
            reason = f"{self.name}: of no sensitive feature two groups have {_LEAST_GROUP_ROWS} rows"
            return Measured(value=None, passed=None, reason=reason)
        worst = max(found, key=lambda each: (each["at_least"] > threshold, each["difference"]))
        high, low = worst["between"]
        return Measured(
            value=worst["difference"],
            passed=worst["at_least"] <= threshold,
            reason=f"{self.criterion.replace('_', ' ')}: the {worst['rate']} is {worst['rates'][high]:.4f} for"
            f" {worst['feature']}={high} and {worst['rates'][low]:.4f} for {low}, a difference of"
            f" {worst['difference']:.4f}, with 95 % confidence at least {worst['at_least']:.4f}; expected at most"
            f" {threshold:g}",
            detail={"gaps": found},
        )


def gaps(evidence: Evidence, group: Group, criterion: str) -> list[dict[str, Any]]:
    """For each class and rate of a criterion: the rates of the groups, and between which two the difference is."""
    classes = evidence.signature.classes
    of_interest = [1] if len(classes) == 2 else range(len(classes))
    found = []
    for each in of_interest:
        chosen, actual = (codes == each for codes in (evidence.said, evidence.rows.truth))
        for rate, among in _among(criterion, actual).items():
            words = f"{rate} {classes[each]}" if criterion == "demographic_parity" else rate
            words += f" ({classes[each]})" if len(classes) > 2 and criterion != "demographic_parity" else ""
            members = {value: rows & among for value, rows in group.members().items()}
            if gap := _gap(members, _RATES[criterion][rate], actual, chosen, evidence.weights):
                found.append({"feature": group.feature, "rate": words, **gap})
    return found


def _among(criterion: str, actual: Rows) -> dict[str, Rows]:
    """The rows that each rate of a criterion is a share of."""
    if criterion == "demographic_parity":
        return dict.fromkeys(_RATES[criterion], np.ones(len(actual), dtype=bool))
    hits, alarms = _RATES[criterion]
    return {hits: actual, alarms: ~actual}


def _gap(members: Mapping[str, Rows], rate: Any, actual: Rows, chosen: Rows, drawn: Floats) -> dict[str, Any] | None:
    """Highest minus lowest rate over the groups with enough rows; None where fewer than two have."""
    members = {value: rows for value, rows in members.items() if rows.sum() >= _LEAST_GROUP_ROWS}
    if len(members) < 2:
        return None
    names = np.full(len(actual), "", dtype=object)
    for value, rows in members.items():
        names[rows] = value
    told = names != ""
    frame = MetricFrame(metrics=rate, y_true=actual[told], y_pred=chosen[told], sensitive_features=names[told])
    rates = {str(value): float(found) for value, found in frame.by_group.items()}
    low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    shares = [_shares(chosen, members[value], drawn) for value in (high, low)]
    at_least, _ = bootstrap.interval(shares[0] - shares[1], _ONE_SIDED)
    return {"rates": rates, "between": [high, low], "difference": rates[high] - rates[low], "at_least": at_least}


def _shares(chosen: Rows, rows: Rows, drawn: Floats) -> Floats:
    """Share of `chosen` of the rows, under each row of weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(drawn[:, rows] @ chosen[rows] / drawn[:, rows].sum(axis=1), dtype=np.float64)
