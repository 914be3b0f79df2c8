"""What the candidate was made from: a feature that knows the answer, groups that are hardly there or labelled apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Gates
from services.validator.domain.evidence import Evidence, Group, Learned
from services.validator.domain.gate import Check, Measured
from shared.quality import Floats, metrics
from shared.reference import quantile_edges

_BINS = 32
_LEAST_GROUP_ROWS = 50  # a mean of fewer rows says nothing
Codes = NDArray[np.intp]


class Leakage(Check):
    """How much each feature says alone; one that says nearly all may be made of what is to be foretold.

    Each of its 32 quantile bins, or values, answers with the mean of the rows that were learned from; the value is the
    best feature's ROC AUC, or R² for numbers, on the held-out rows. Missing is a value too: a field that is filled in
    only afterwards betrays the answer by being there. Kaufman et al.: Leakage in Data Mining, KDD 2011.
    """

    name = "leakage"
    needs = ("rows", "learned")

    def asked(self, gates: Gates) -> float | None:
        return gates.leakage.max_alone if gates.leakage else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        metric, found = _metric(evidence), alone(evidence)
        if not found:
            reason = f"leakage: the held-out rows do not define {metric}"
            return Measured(value=None, passed=None, reason=reason)
        strongest = max(found, key=found.__getitem__)
        suspect = found[strongest] > threshold
        return Measured(
            value=found[strongest],
            passed=not suspect,
            reason=f"{strongest} alone reaches a {metric} of {found[strongest]:.4f}; expected at most {threshold:g}"
            + (", as what says so much is often known only after the answer" if suspect else ""),
            detail={"features": found},
        )


def _metric(evidence: Evidence) -> str:
    return "r2" if evidence.task == "regression" else "roc_auc"


def alone(evidence: Evidence) -> dict[str, float]:
    """ROC AUC or R² of each feature by itself on the held-out rows; nothing where no row was learned from."""
    learned, rows, metric = evidence.learned, evidence.rows, _metric(evidence)
    if learned is None or not len(learned.truth):
        return {}
    found = {}
    for column, feature in enumerate(evidence.signature.features):
        codes = _codes(learned.inputs[:, column], rows.inputs[:, column], binned=feature.type == "float")
        answers = _answers(*codes, learned.truth, classes=len(evidence.signature.classes))
        value = metrics(evidence.task, rows.truth, answers).get(metric)
        if value is not None:
            found[feature.name] = value
    return found


def _codes(learned: Any, seen: Any, *, binned: bool) -> tuple[Codes, Codes]:
    """Bins from 1 of both columns (n,), (m,), by the quantiles of the first; 0 is missing."""
    edges = quantile_edges(learned, _BINS) if binned else np.arange(1, max(np.nanmax(learned, initial=0), 1) + 1)
    placed = (np.where(np.isnan(each), 0, np.searchsorted(edges, each, side="right") + 1) for each in (learned, seen))
    first, second = placed
    return first.astype(np.intp), second.astype(np.intp)


def _answers(learned: Codes, seen: Codes, truth: Floats, classes: int) -> Floats:
    """For each of the rows seen the mean of its bin, smoothed by one row of the whole: (m, classes), or values (m,)."""
    targets = np.eye(classes)[truth.astype(np.intp)] if classes else truth[:, None]
    bins = int(max(learned.max(), seen.max())) + 1
    sums = np.column_stack([np.bincount(learned, weights=target, minlength=bins) for target in targets.T])
    means = (sums + targets.mean(axis=0)) / (np.bincount(learned, minlength=bins) + 1)[:, None]
    return np.asarray(means[seen] if classes else means[seen, 0], dtype=np.float64)


class Representation(Check):
    """The least share that a group of a sensitive feature has of the rows that were learned from."""

    name = "representation"
    needs = ("learned",)

    def asked(self, gates: Gates) -> float | None:
        return gates.representation.min_share if gates.representation else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        learned = evidence.learned
        assert learned
        shares = {
            f"{group.feature}={value}": float((group.codes == code).mean())
            for group in _sensitive(learned)
            for code, value in enumerate(group.values)
        }
        if not shares:
            return _nobody(self.name)
        rarest = min(shares, key=shares.__getitem__)
        rows = len(learned.truth)
        return Measured(
            value=shares[rarest],
            passed=shares[rarest] >= threshold,
            reason=f"{rarest} has {round(shares[rarest] * rows)} of the {rows} rows that were learned from"
            f" ({shares[rarest]:.2%}), the fewest of all groups; expected at least {threshold:.2%}",
            detail={"shares": shares},
        )


class LabelGap(Check):
    """How far the labels of two groups of a sensitive feature lie apart in the rows that were learned from.

    A candidate repeats what it was taught: of classes the share, of numbers the mean in standard deviations.
    """

    name = "label_gap"
    needs = ("learned",)

    def asked(self, gates: Gates) -> float | None:
        return gates.representation.max_label_gap if gates.representation else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        learned = evidence.learned
        assert learned
        if not (sensitive := _sensitive(learned)):
            return _nobody(self.name)
        targets = _targets(learned.truth, evidence.signature.classes)
        found = {
            f"{group.feature}: {label}": means
            for group in sensitive
            for label, target in targets.items()
            if len(means := _means(group, target)) > 1
        }
        if not found:
            reason = f"label_gap: fewer than two groups have {_LEAST_GROUP_ROWS} rows"
            return Measured(value=None, passed=None, reason=reason)
        where, means = max(found.items(), key=lambda item: max(item[1].values()) - min(item[1].values()))
        low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
        value = means[high] - means[low]
        return Measured(
            value=value,
            passed=value <= threshold,
            reason=f"in the rows that were learned from the labels of groups differ by {value:.4f} ({where} is"
            f" {means[high]:.4f} for {high}, {means[low]:.4f} for {low}); expected at most {threshold:g}",
            detail={"means": found},
        )


def _sensitive(learned: Learned) -> list[Group]:
    return [group for group in learned.groups if group.sensitive]


def _nobody(name: str) -> Measured:
    return Measured(value=None, passed=False, reason=f"{name}: no feature of the stream has `sensitive: true`")


def _targets(truth: Floats, classes: tuple[str, ...]) -> dict[str, Floats]:
    """Columns whose means are compared: one for each class (of two only the second), or the number, standardised."""
    if not classes:
        return {"label": (truth - truth.mean()) / max(float(truth.std()), 1e-12)}
    names = classes[1:] if len(classes) == 2 else classes
    return {name: (truth == classes.index(name)).astype(np.float64) for name in names}


def _means(group: Group, target: Floats) -> dict[str, float]:
    members = {value: rows for value, rows in group.members().items() if rows.sum() >= _LEAST_GROUP_ROWS}
    return {value: float(target[rows].mean()) for value, rows in members.items()}
