"""Realised quality of a version on its newest matured, labelled predictions, and whether it has decayed.

Decay: the main metric of as many matured predictions as a window has lies below the version's own test metric by more
than a tolerance and the noise of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray
from scipy.special import ndtri

from schemas.events.monitor import Quality
from schemas.specs import Costs
from services.monitor.domain.alerts import Finding
from services.monitor.domain.estimate import Estimate, auc_error, cost_of, expected_over
from services.monitor.domain.join import Settled
from services.monitor.domain.pairs import flat, widened
from shared.quality import Task, main_metric, metrics

_TOLERANCE = 0.02  # of an AUC, or as a share of an error
_DISAGREES = 4.0  # standard errors
_LEAST = 200  # matured predictions
_TEST_SHARE = 0.1  # of a candidate's rows, on which its own metric was measured


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the version promised: its own test metric, and the rows behind it."""

    value: float
    rows: int


class Realised(Struct, kw_only=True):
    """The newest matured, labelled, served predictions of one version: n keys, labels (n,), outputs (n, outputs)."""

    keys: list[tuple[int, int, str]] = field(default_factory=list)  # time, partition, id
    labels: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    outputs: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 1)))
    fresh: int = 0  # since the last check
    strength: float = 0.0  # of the last check: the gap over what is allowed

    def add(self, settled: Sequence[Settled], window: int) -> None:
        """Matured ones; the newest `window` by event time stay, in canonical order."""
        if not settled:
            return
        outputs = np.array([each.served.output for each in settled])
        held = widened(self.outputs, outputs.shape[1])
        keys = self.keys + [(each.time, each.partition, each.id) for each in settled]
        kept = sorted(range(len(keys)), key=keys.__getitem__)[-window:]
        self.keys = [keys[index] for index in kept]
        self.labels = np.append(self.labels, [each.label for each in settled])[kept]
        self.outputs = np.concatenate([held, outputs])[kept]
        self.fresh += len(settled)

    def quality(self, task: Task, costs: Costs | None, estimates: Sequence[Estimate]) -> Quality:
        """With what was `estimated` for the same time; more than four standard errors of it apart is no chance."""
        found, (name, _) = metrics(task, self.labels, flat(self.outputs)), main_metric(task)
        if name not in found:
            return Quality(labelled=len(self.labels), metrics=found)
        error, estimate = self._noise(task, found[name]), self._estimated(estimates)
        return Quality(
            labelled=len(self.labels),
            metrics=found,
            errors={name: error},
            cost=self._cost(costs) if task == "binary" else None,
            expected={} if estimate is None else {name: estimate},
            disagrees=estimate is not None and self._disagrees(task, found[name], estimate),
        )

    def _estimated(self, estimates: Sequence[Estimate]) -> float | None:
        return expected_over(estimates, self.keys[0][0], self.keys[-1][0]) if self.keys else None

    def _cost(self, costs: Costs | None) -> float | None:
        said, true = self.outputs[:, 0] >= 0.5, self.labels == 1
        return cost_of(costs, int((said & ~true).sum()), int((~said & true).sum()), len(true))

    def due(self, window: int) -> bool:
        """Whether a whole new window has matured since the last check."""
        return self.fresh >= window and len(self.labels) >= _LEAST

    def check(
        self, task: Task, baseline: Baseline, probability: float, estimates: Sequence[Estimate] = ()
    ) -> Finding | None:
        """What the newest window says against the baseline; `probability` is that of a false finding.

        The explanation says whether the estimate without labels had seen it coming.
        """
        self.fresh = 0
        name, higher = main_metric(task)
        value = metrics(task, self.labels, flat(self.outputs)).get(name)
        if value is None:
            return None
        gap = baseline.value - value if higher else value - baseline.value
        tolerance = _TOLERANCE if higher else _TOLERANCE * abs(baseline.value)
        noise = sqrt(self._noise(task, value) ** 2 + self._noise(task, baseline.value, baseline.rows) ** 2)
        slack = -float(ndtri(probability)) * noise
        self.strength = gap / (tolerance + slack)
        if gap <= tolerance + slack:
            return None
        words = f"{name} {value:.4f} over {len(self.labels)} predictions, {baseline.value:.4f} promised"
        return Finding(
            subject=name,
            explanation=words + self._compared(task, value, self._estimated(estimates)),
            overwhelming=gap > tolerance + 2 * slack,
        )

    def _compared(self, task: Task, value: float, estimate: float | None) -> str:
        if estimate is None:
            return ""
        if self._disagrees(task, value, estimate):
            return f"; {estimate:.4f} was expected of these inputs, so what leads from inputs to labels has changed"
        return f"; {estimate:.4f} was expected of these inputs, so it is they that have changed"

    def _disagrees(self, task: Task, value: float, estimate: float) -> bool:
        """Beyond what either of them may err by."""
        return abs(estimate - value) > _DISAGREES * max(self._noise(task, value), self._noise(task, estimate))

    def _noise(self, task: Task, value: float, rows: int | None = None) -> float:
        """Standard error of the main metric over this window, or over `rows` like it."""
        count = rows or len(self.labels)
        if task == "regression":
            squared = (self.labels - self.outputs[:, 0]) ** 2
            return float(squared.std()) / (2 * max(value, 1e-12)) / sqrt(max(1, count))
        classes, sizes = np.unique(self.labels, return_counts=True)
        share = float(sizes.min()) / len(self.labels) if len(classes) > 1 else 0.5
        return auc_error(value, max(1.0, share * count), max(1.0, (1 - share) * count))


def baseline_of(task: Task, test_metrics: dict[str, float], rows: int) -> Baseline | None:
    value = test_metrics.get(main_metric(task)[0])
    return None if value is None else Baseline(value=value, rows=max(1, round(rows * _TEST_SHARE)))
