"""Some matured, labelled predictions, and how good they are."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from schemas.events.monitor import Quality
from schemas.specs import Costs, Task
from services.monitor.domain.estimate import auc_error, cost_of
from services.monitor.domain.pairs import flat
from shared.quality import main_metric, metrics

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """n predictions: labels (n,), outputs (n, outputs), and weights (n,) where labels were chosen by lot."""

    task: Task
    labels: Floats
    outputs: Floats
    weights: Floats | None = None

    def where(self, rows: NDArray[np.bool_]) -> "Sample":
        """Some of them."""
        weights = None if self.weights is None else self.weights[rows]
        return Sample(task=self.task, labels=self.labels[rows], outputs=self.outputs[rows], weights=weights)

    def quality(self, costs: Costs | None) -> Quality:
        """Every metric that these rows define, with standard errors where they have a known one."""
        found = metrics(self.task, self.labels, flat(self.outputs), self.weights)
        main, _ = main_metric(self.task)
        errors = self._errors(found) | ({main: self.noise(found[main])} if main in found else {})
        return Quality(
            labelled=len(self.labels),
            metrics=found,
            errors={name: error for name, error in errors.items() if name in found},
            cost=self._cost(costs) if self.task == "binary" and costs and len(self.labels) else None,
            effective=None if self.weights is None else self._effective,
        )

    @property
    def _effective(self) -> float:
        """As many rows of equal weight are worth as much (Kish, Survey Sampling, 1965)."""
        if self.weights is None or not len(self.weights):
            return float(len(self.labels))
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def noise(self, value: float, rows: int | None = None) -> float:
        """Standard error of the main metric when it has this value, over these predictions or over `rows` like them."""
        count = self._effective if rows is None else rows
        if self.task == "regression":
            squared = (self.labels - self.outputs[:, 0]) ** 2
            return float(squared.std()) / (2 * max(value, 1e-12)) / sqrt(max(1.0, count))
        classes, sizes = np.unique(self.labels, return_counts=True)
        share = float(sizes.min()) / len(self.labels) if len(classes) > 1 else 0.5
        return auc_error(value, max(1.0, share * count), max(1.0, (1 - share) * count))

    def _errors(self, found: dict[str, float]) -> dict[str, float]:
        """Of the metrics that are means of rows."""
        count = max(1.0, self._effective)
        if self.task == "regression":
            return {"mae": float(np.abs(self.labels - self.outputs[:, 0]).std()) / sqrt(count)} if found else {}
        if not found:
            return {}
        codes, outputs = self.labels.astype(np.intp), self.outputs
        shares = np.column_stack([1 - outputs[:, 0], outputs[:, 0]]) if outputs.shape[1] == 1 else outputs
        squares = ((shares - np.eye(shares.shape[1])[codes]) ** 2).sum(axis=1) / 2
        surprise = -np.log(np.clip(shares[np.arange(len(codes)), codes], 1e-15, 1.0))
        return {
            "accuracy": sqrt(found["accuracy"] * (1 - found["accuracy"]) / count),
            "brier": float(squares.std()) / sqrt(count),
            "log_loss": float(surprise.std()) / sqrt(count),
        }

    def _cost(self, costs: Costs) -> float:
        said, true = self.outputs[:, 0] >= costs.threshold, self.labels == 1
        weights = np.ones(len(true)) if self.weights is None else self.weights
        wrong = float(weights[said & ~true].sum()), float(weights[~said & true].sum())
        return cost_of(costs, *wrong, float(weights.sum()))
