"""Realised quality of a version on its newest matured, labelled predictions, and whether it has decayed.

Decay: the main metric of as many matured predictions as a window has lies below the version's own test metric by more
than a tolerance and the noise of both. Both are of labels as they come, without weights, since training had no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Literal

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray
from scipy.special import ndtri

from schemas.events.monitor import Quality, SliceQuality
from schemas.specs import Costs, Label, Task
from services.monitor.domain.alerts import Finding
from services.monitor.domain.entries import Settled
from services.monitor.domain.estimate import Estimate, expected_over
from services.monitor.domain.pairs import flat, widened
from services.monitor.domain.sample import Sample
from services.monitor.domain.slices import UNKNOWN, Sliced, quality_by_slice
from shared.quality import main_metric, metrics

_TOLERANCE = 0.02  # of an AUC, or as a share of an error
_DISAGREES = 4.0  # standard errors
_LEAST = 200  # matured predictions
_MOSTLY = 0.75
Arm = Literal["champion", "canary"]
ARMS: tuple[Arm, ...] = ("champion", "canary")
Feedback = Literal["complete", "selective", "explored"]  # which labels come: all, those of `true`, some of the rest too


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the version promised: its own test metric, and the rows behind it."""

    value: float
    rows: int


class Realised(Struct, kw_only=True):
    """The newest matured, labelled, served predictions of one version: n keys, labels (n,), outputs (n, outputs).

    Beside them their weights (n,), arms (n,) by ARMS, and slices (n, 1 + sliced features).
    """

    keys: list[tuple[int, int, str]] = field(default_factory=list)  # time, partition, id
    labels: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    outputs: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 1)))
    fresh: int = 0  # since the last check
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    arms: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    slices: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), np.int32))

    def add(self, settled: Sequence[Settled], window: int) -> None:
        """Matured ones, in canonical order; the newest `window` by event time stay, in canonical order."""
        if not settled:
            return
        self.fresh += len(settled)
        settled = settled[-window:]
        outputs = np.array([each.served.output for each in settled])
        held, before = widened(self.outputs, outputs.shape[1]), len(self.labels)
        keys = self.keys + [(each.time, each.partition, each.id) for each in settled]
        kept = sorted(range(len(keys)), key=keys.__getitem__)[-window:]
        self.keys = [keys[index] for index in kept]
        self.labels = np.append(self.labels, [each.label for each in settled])[kept]
        self.outputs = np.concatenate([held, outputs])[kept]
        weights = _of(self.weights, before, 1.0), np.array([each.served.weight for each in settled])
        arms = _of(self.arms, before, 0), np.array([each.served.arm == ARMS[1] for each in settled], np.int8)
        self.weights, self.arms = np.concatenate(weights)[kept], np.concatenate(arms)[kept]
        self.slices = _slices(self.slices, before, settled)[kept]

    def sample(self, task: Task, feedback: Feedback = "complete") -> tuple[Sample, NDArray[np.bool_]]:
        """These predictions; where some are explored, those that were to have a label, weighted. And which they are."""
        everything = Sample(task=task, labels=self.labels, outputs=self.outputs)
        if feedback != "explored":
            return everything, np.ones(len(self.labels), dtype=bool)
        weights = _of(self.weights, len(self.labels), 1.0)
        chosen = weights > 0
        return replace(everything, weights=weights).where(chosen), chosen

    def quality(
        self, task: Task, costs: Costs | None, estimates: Sequence[Estimate], feedback: Feedback = "complete"
    ) -> Quality:
        """With what was `estimated` for the same time; more than four standard errors of it apart is no chance.

        An estimate is of all predictions, and so is not held against labels of some kinds of them alone.
        """
        sample, _ = self.sample(task, feedback)
        quality, (name, _) = sample.quality(costs), main_metric(task)
        if feedback == "selective":
            return quality.model_copy(update={"biased": True})
        estimate = self._estimated(estimates) if name in quality.metrics else None
        if estimate is None:
            return quality
        disagrees = _disagrees(sample, quality.metrics[name], estimate)
        return quality.model_copy(update={"expected": {name: estimate}, "disagrees": disagrees})

    def by_arm(self, task: Task, costs: Costs | None, feedback: Feedback = "complete") -> dict[Arm, Quality]:
        """Of each arm that this version has served as."""
        sample, chosen = self.sample(task, feedback)
        arms, biased = _of(self.arms, len(self.labels), 0)[chosen], {"biased": feedback == "selective"}
        found = {arm: sample.where(arms == code) for code, arm in enumerate(ARMS) if (arms == code).any()}
        return {arm: each.quality(costs).model_copy(update=biased) for arm, each in found.items()}

    def by_slice(
        self, sliced: Sequence[Sliced], task: Task, costs: Costs | None, feedback: Feedback = "complete"
    ) -> tuple[SliceQuality, ...]:
        """Of each value of the features that are watched one by one."""
        sample, chosen = self.sample(task, feedback)
        codes, biased = self.slices[chosen] if len(self.slices) == len(chosen) else self.slices, feedback == "selective"
        found = quality_by_slice(sliced, codes, sample, costs) if sliced else ()
        return tuple(
            each.model_copy(update={"quality": each.quality.model_copy(update={"biased": biased})}) for each in found
        )

    def _estimated(self, estimates: Sequence[Estimate]) -> float | None:
        return expected_over(estimates, self.keys[0][0], self.keys[-1][0]) if self.keys else None

    def due(self, window: int) -> bool:
        """Whether most of a new window has matured since the last check; it is asked when a window closes."""
        return self.fresh >= _MOSTLY * window and len(self.labels) >= _LEAST

    def check(
        self, task: Task, baseline: Baseline, probability: float, estimates: Sequence[Estimate] = ()
    ) -> Finding | None:
        """What the newest window says against the baseline; `probability` is that of a false finding.

        The explanation says whether the estimate without labels had seen it coming.
        """
        self.fresh = 0
        (name, higher), (sample, _) = main_metric(task), self.sample(task)
        value = metrics(task, self.labels, flat(self.outputs)).get(name)
        if value is None:
            return None
        gap = baseline.value - value if higher else value - baseline.value
        tolerance = _TOLERANCE if higher else _TOLERANCE * abs(baseline.value)
        noise = sqrt(sample.noise(value) ** 2 + sample.noise(baseline.value, baseline.rows) ** 2)
        slack = -float(ndtri(probability)) * noise
        if gap <= tolerance + slack:
            return None
        words = f"{name} {value:.4f} over {len(self.labels)} predictions, {baseline.value:.4f} promised"
        return Finding(
            subject=name,
            explanation=words + _compared(sample, value, self._estimated(estimates)),
            overwhelming=gap > tolerance + 2 * slack,
        )


def feedback_of(label: Label) -> Feedback:
    """Of a stream's labels."""
    if label.feedback == "complete":
        return "complete"
    return "explored" if label.explore else "selective"


def _compared(sample: Sample, value: float, estimate: float | None) -> str:
    if estimate is None:
        return ""
    if _disagrees(sample, value, estimate):
        return f"; {estimate:.4f} was expected of these inputs, so what leads from inputs to labels has changed"
    return f"; {estimate:.4f} was expected of these inputs, so it is they that have changed"


def _disagrees(sample: Sample, value: float, estimate: float) -> bool:
    """Beyond what either of them may err by."""
    return abs(estimate - value) > _DISAGREES * max(sample.noise(value), sample.noise(estimate))


def _of(held: NDArray[Any], rows: int, usual: float) -> NDArray[Any]:
    """What stands beside so many rows; those that were there before it was kept have the usual."""
    return held if len(held) == rows else np.full(rows, usual, held.dtype)


def _slices(held: NDArray[np.int32], rows: int, settled: Sequence[Settled]) -> NDArray[np.int32]:
    """Of rows that are held and those that are added; what was sliced by other features is unknown."""
    width = max(len(each.slices) for each in settled)
    unknown = (UNKNOWN,) * width
    added = np.array([each.slices if len(each.slices) == width else unknown for each in settled], np.int32)
    before = held if held.shape == (rows, width) else np.full((rows, width), UNKNOWN, np.int32)
    return np.concatenate([before, added.reshape(len(settled), width)])


def baseline_of(task: Task, test_metrics: dict[str, float], rows: int) -> Baseline | None:
    value = test_metrics.get(main_metric(task)[0])
    return None if value is None else Baseline(value=value, rows=max(1, rows))
