"""Quality of a window estimated without its labels: confidence-based for classes (CBPE), direct loss for numbers (DLE).

Both after NannyML, from counts alone: shared/expectation.py and services/trainer/domain/expectations.py say how.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.events.monitor import Estimated
from schemas.specs import Costs, Task
from services.monitor.domain.bins import Bins
from shared.expectation import CELLS, Cells, cells_of, confusion, expected
from shared.matrix import Inputs
from shared.reference import Counts

LIMITS = "right while inputs lead to labels as in training; blind to concept drift"
SELECTIVE = "learned from labels that only some kinds of answers get"
_MAIN_LOSS = {"binary": "brier", "multiclass": "brier", "regression": "squared"}
Floats = NDArray[np.float64]
Estimate = tuple[int, int, float]  # from, until, main metric


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Expected loss of a row: `base` and what its bin of each column adds, aligned with the counts; `std` of a row."""

    base: float
    std: float
    added: Floats


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a reference says of quality: `calibration` (columns, CELLS) of classes, and losses by name."""

    calibration: Floats = field(default_factory=lambda: np.empty((0, 0)))
    losses: Mapping[str, Loss] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any], bins: Bins) -> "Expectation":
        """From the reference artifact; one of a version that was made without it expects nothing."""
        if "expected" not in document:
            return cls()
        told = document["expected"]
        found = {
            name: Loss(base=loss["base"], std=loss["std"], added=_added(loss["tables"], bins))
            for name, loss in told["losses"].items()
        }
        return cls(calibration=np.array(told["calibration"], dtype=np.float64), losses=found)

    def estimate(self, task: Task, bins: Bins, counts: Counts, cells: Cells, costs: Costs | None) -> Estimated | None:
        """Of a window's counts and cells; None where the reference expects nothing or the classes are others now."""
        if task == "regression":
            return self._direct(bins, counts)
        if not cells.size or self.calibration.shape != (len(cells), cells.shape[-1]):
            return None
        rows, found = int(cells[0].sum()), expected(task, cells, self.calibration)
        share = float((cells[-1].sum(axis=0) * self.calibration[-1]).sum()) / rows
        error = auc_error(found["roc_auc"], max(1.0, share * rows), max(1.0, (1 - share) * rows))
        return Estimated(
            method="cbpe",
            metrics=found,
            errors={"roc_auc": error},
            cost=self._cost(cells, costs, rows) if task == "binary" else None,
            limits=LIMITS,
        )

    def _cost(self, cells: Cells, costs: Costs | None, rows: int) -> float | None:
        if costs is None:
            return None
        return cost_of(costs, *confusion(cells, self.calibration, costs.threshold), rows)

    def _direct(self, bins: Bins, counts: Counts) -> Estimated | None:
        rows = int(counts[bins.slices[0]].sum())
        if not self.losses or not rows:
            return None
        mean = {name: loss.base + sum(_terms(loss, bins, counts)) for name, loss in self.losses.items()}
        rmse = sqrt(max(1e-12, mean["squared"]))
        errors = {
            "mae": self.losses["absolute"].std / sqrt(rows),
            "rmse": self.losses["squared"].std / (2 * rmse) / sqrt(rows),
        }
        return Estimated(method="dle", metrics={"mae": mean["absolute"], "rmse": rmse}, errors=errors, limits=LIMITS)

    def of_rows(self, task: Task, bins: Bins, inputs: Inputs, outputs: Floats) -> Floats | None:
        """The main loss expected of each row (n,): the version's inputs (n, features), outputs (n, columns)."""
        if task == "regression":
            loss, values = self.losses.get("squared"), [*inputs.T, outputs[:, 0].astype(np.float32)]
            return None if loss is None else loss.base + _added_to(loss, bins, values)
        if self.calibration.shape != (outputs.shape[1], CELLS):
            return None
        means = np.take_along_axis(self.calibration, cells_of(outputs).T, axis=1).T
        squares = (means * (1 - outputs) ** 2 + (1 - means) * outputs**2).sum(axis=1)
        return np.asarray(squares if task == "binary" else squares / 2)

    def effects(self, task: Task, bins: Bins, counts: Counts) -> dict[str, float]:
        """By column, what its shift from the reference adds to the expected loss of a prediction."""
        loss = self.losses.get(_MAIN_LOSS[task])
        if loss is None:
            return {}
        now, then = _terms(loss, bins, counts), _terms(loss, bins, bins.reference)
        return {column.name: a - b for column, a, b in zip(bins.columns, now, then, strict=True)}


def auc_error(auc: float, positives: float, negatives: float) -> float:
    """Standard error of an AUC by Hanley and McNeil's formula (Radiology 143, 1982).

    >>> round(auc_error(0.8, 100, 300), 4)
    0.0283
    """
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc * auc) + (negatives - 1) * (q2 - auc * auc)
    return sqrt(max(0.0, spread) / (positives * negatives))


def cost_of(costs: Costs, false_positives: float, false_negatives: float, rows: float) -> float:
    """A prediction's, by the cost matrix."""
    return (costs.false_positive * false_positives + costs.false_negative * false_negatives) / max(1, rows)


def expected_over(estimates: Sequence[Estimate], start: int, end: int) -> float | None:
    """Of estimates (from, until, value), the mean of those that overlap a stretch of time, by their overlap.

    >>> expected_over([(0, 10, 0.75), (10, 20, 0.25)], 5, 15), expected_over([], 5, 15)
    (0.5, None)
    """
    overlaps = [(min(end, until) - max(start, since), value) for since, until, value in estimates]
    shared = [(overlap, value) for overlap, value in overlaps if overlap > 0]
    total = sum(overlap for overlap, _ in shared)
    return sum(overlap * value for overlap, value in shared) / total if total else None


def _terms(loss: Loss, bins: Bins, counts: Counts) -> list[float]:
    """What each column adds to the mean loss of rows counted so."""
    return [
        float((loss.added[place] * counts[place]).sum()) / max(1, int(counts[place].sum())) for place in bins.slices
    ]


def _added_to(loss: Loss, bins: Bins, values: Sequence[NDArray[np.float32]]) -> Floats:
    """What the bins of its values, a column each, add to the loss of each row (n,)."""
    columns = zip(bins.columns, bins.slices, values, strict=True)
    return np.asarray(np.sum([loss.added[place][column.codes(each)] for column, place, each in columns], axis=0))


def _added(tables: Mapping[str, Sequence[float]], bins: Bins) -> Floats:
    return np.concatenate([tables.get(column.name, np.zeros(column.bins + 1)) for column in bins.columns])
