"""Where the candidate is weakest, whether anybody thought of that part of the rows or not."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from schemas.specs import Gates, WeakSpotsGate
from services.validator.domain import bootstrap
from services.validator.domain.bootstrap import Codes
from services.validator.domain.evidence import Evidence
from services.validator.domain.gate import Check, Measured
from services.validator.domain.spots import Condition, Rows, excess, of_numbers, of_values, weakest
from shared.quality import Floats

_SPOTS = 5
_STRETCHES, _LEAST_STRETCHES = 16, 4
_ONE_SIDED = 1 - 2 * 0.05 / _SPOTS  # 95 % confidence for all five together


class WeakSpots(Check):
    """The largest excess loss of the five weakest parts that a search found in half of the rows, by the other half.

    What is lost (Brier score of classes, squared error of numbers) is held against a constant's loss in the same part,
    because some parts are harder than others for every model. The halves are eight stretches of time each, in turn, and
    stretches are what the bootstrap draws: one bad day is no weak spot. A part fails when its excess is larger than
    allowed with 95 % confidence.
    """

    name = "weak_spots"

    def asked(self, gates: Gates) -> float | None:
        return gates.weak_spots.max_excess if gates.weak_spots else None

    def measure(self, evidence: Evidence, threshold: float) -> Measured:
        gate = evidence.spec.gates.weak_spots or WeakSpotsGate()
        found = weak_spots(evidence, gate.min_rows)
        if not found:
            reason = f"weak_spots: no part of the {len(evidence.rows.truth)} held-out rows has {gate.min_rows} rows"
            return Measured(value=None, passed=None, reason=reason)
        worst = max(found, key=lambda each: (each["at_least"] > threshold, each["excess"]))
        return Measured(
            value=worst["excess"],
            passed=worst["at_least"] <= threshold,
            reason=f"of all parts that a search looked at it is weakest for {worst['part']} ({worst['rows']} rows):"
            f" there it loses {_against(worst['excess'])} than a constant answer, as a share of what that loses over"
            f" all rows, with 95 % confidence at least {worst['at_least']:+.4f}; expected at most {threshold:g}",
            detail={"parts": found},
        )


def _against(excess: float) -> str:
    return f"{abs(excess):.4f} {'more' if excess > 0 else 'less'}"


def weak_spots(evidence: Evidence, min_rows: int) -> list[dict[str, Any]]:
    """The weakest parts: in words, rows of the whole, excess and its lower bound by the half that was not searched."""
    loss, targets = losses(evidence)
    stretches = np.arange(len(loss)) * _STRETCHES // max(len(loss), 1)
    sought = stretches % 2 == 0
    conditions = list(_conditions(evidence, sought))
    spots = weakest(conditions, loss, targets, sought, least_rows=min_rows // 2, most=4 * _SPOTS)
    told = [
        {"part": spot.words, "rows": int(spot.rows.sum())} | _measured(loss, targets, rows, stretches, evidence.seed)
        for spot in spots
        if (rows := spot.rows & ~sought).sum() >= min_rows // 4 and len(set(stretches[rows])) >= _LEAST_STRETCHES
    ]
    return told[:_SPOTS]


def _measured(loss: Floats, targets: Floats, rows: Rows, stretches: Codes, seed: int) -> dict[str, float]:
    """Excess loss of the rows (n,), as a share of a constant's loss over all."""
    scale, there = max(float(targets.var(axis=0).sum()), 1e-12), stretches[rows]
    value = excess(loss[rows], targets[rows], np.ones((1, len(there)))) / scale
    found, place = np.unique(there, return_inverse=True)
    values = excess(loss[rows], targets[rows], bootstrap.weights(len(found), seed)[:, place]) / scale
    low, _ = bootstrap.interval(values, _ONE_SIDED)
    return {"excess": float(value[0]), "at_least": low}


def losses(evidence: Evidence) -> tuple[Floats, Floats]:
    """What is lost on each row (n,), and what a constant would be fitted to (n, k), in the same unit."""
    truth, answers = evidence.rows.truth, evidence.rows.answers
    if answers.ndim == 1:
        return (answers - truth) ** 2, truth[:, None]
    targets = np.eye(answers.shape[1])[truth.astype(np.intp)]
    return np.asarray(((answers - targets) ** 2).sum(axis=1) / 2, dtype=np.float64), targets / np.sqrt(2)


def _conditions(evidence: Evidence, sought: Rows) -> Iterator[Condition]:
    """Of the model's features, and of those that slice or are sensitive."""
    names = set()
    for column, feature in enumerate(evidence.signature.features):
        names.add(feature.name)
        values = evidence.rows.inputs[:, column].astype(np.float64)
        if feature.type == "float":
            yield from of_numbers(feature.name, values, sought)
        else:
            yield from of_values(feature.name, values, feature.values or ("false", "true"))
    for group in evidence.rows.groups:
        if group.feature not in names:
            yield from of_values(group.feature, group.codes, group.values)
