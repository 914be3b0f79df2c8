"""What a version loses beyond what its own answers promise, and since when: drift of the concept that ranking hides.

A probability promises a loss too: with p, a Brier loss of p (1 - p) on the average. What is lost beyond it is nothing
on the average while probabilities mean what they say, whichever rows come; harder rows have a larger promise. A ROC AUC
sees no threshold that moves, this does. Numbers promise the squared error that their test rows had.

The noise of a window's mean is taken from the means of its own blocks (batch means, Student's law), because rows that
hang together, as a storm's flights do, tell less than their number. Since when: the split of the blocks into two
stretches of one level each that leaves the least squares (Hinkley: Inference about the change-point in a sequence of
random variables, Biometrika 57, 1970), where one window before the first block counts as promised.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray
from scipy.special import stdtrit

from schemas.specs import Task
from services.monitor.domain.alerts import Finding
from services.monitor.domain.entries import Settled

BLOCKS = 10  # of a window
_REMEMBERED = 20  # windows
_TOLERANCE = 0.01  # of a Brier loss
_FAR = 4.0  # standard errors


class Losses(Struct, kw_only=True):
    """Blocks of what has settled of one version from window to window, in canonical order; the last may grow."""

    starts: list[int] = field(default_factory=list)  # µs
    sizes: list[int] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)

    def add(self, task: Task, settled: Sequence[Settled], window: int) -> None:
        """Matured ones, in canonical order."""
        rows = max(1, window // BLOCKS)
        for time, value in zip((each.time for each in settled), beyond(task, settled), strict=True):
            if not self.sizes or self.sizes[-1] >= rows:
                self._open(time)
            self.sizes[-1] += 1
            self.totals[-1] += value

    def _open(self, time: int) -> None:
        kept = -(_REMEMBERED * BLOCKS - 1)
        self.starts, self.sizes, self.totals = (
            [*self.starts[kept:], time], [*self.sizes[kept:], 0], [*self.totals[kept:], 0.0]
        )  # fmt: skip

    def check(self, window: int, probability: float) -> Finding | None:
        """Whether the newest window of classes lost more than it promised; `probability` is that of a false finding."""
        sizes, means = self._blocks()
        full = sizes >= max(1, window // BLOCKS)
        newest = means[full][-BLOCKS:]
        if len(newest) < BLOCKS:
            return None
        gap = float(newest.mean())
        slack = float(stdtrit(BLOCKS - 1, 1 - probability)) * float(newest.std(ddof=1)) / sqrt(BLOCKS)
        if gap <= _TOLERANCE + slack:
            return None
        words = f"brier {gap:.4f} above what the probabilities promised, over {sizes[full][-BLOCKS:].sum()} predictions"
        overwhelming = gap > _TOLERANCE + 2 * slack
        return Finding(subject="brier", explanation=words, overwhelming=overwhelming, since=self.began(window))

    def began(self, window: int, promised: float = 0.0) -> int | None:
        """Start (µs) of the stretch that has lost more than what came before it."""
        return self.starts[self._split(window, promised)] if self.starts else None

    def rose(self, window: int) -> int | None:
        """Likewise, where it lost far more than the blocks of either stretch differ by.

        A rise in the middle of the newest window makes its mean noisy, so that `check` may not find it yet.
        """
        if len(self.starts) < BLOCKS:
            return None
        split, (_, means) = self._split(window), self._blocks()
        before, after = np.append(0.0, means[:split]), means[split:]  # what is promised counts as a block
        apart = np.concatenate([before - before.mean(), after - after.mean()])
        noise = float(np.sqrt((apart**2).sum() / (len(apart) - 2) * (1 / len(before) + 1 / len(after))))
        rise = float(after.mean() - before.mean())
        return self.starts[split] if rise > _TOLERANCE + _FAR * noise else None

    def _split(self, window: int, promised: float = 0.0) -> int:
        """The block at which the stretch begins."""
        sizes, means = self._blocks()
        before = window + np.append(0, sizes.cumsum()[:-1])
        after = sizes.sum() - (before - window)
        lost = (means * sizes).cumsum()
        level = (window * promised + np.append(0.0, lost[:-1])) / before
        rise = (lost[-1] - np.append(0.0, lost[:-1])) / after - level
        gain = np.where(rise > 0, rise**2 * before * after / (before + after), -1.0)
        return int(gain.argmax())

    def _blocks(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Sizes and means."""
        sizes = np.array(self.sizes, dtype=np.intp)
        return sizes, np.array(self.totals) / np.maximum(1, sizes)


def beyond(task: Task, settled: Sequence[Settled]) -> list[float]:
    """What each lost beyond its promise: Brier losses of classes; the squared error itself of numbers.

    >>> from services.monitor.domain.entries import Score, Settled
    >>> score = Score(1, 1, "champion", (0.75,))
    >>> beyond("binary", [Settled(0, 0, "e", label, score, None) for label in (0.0, 1.0)])
    [0.375, -0.125]
    """
    if task == "regression":
        return [(each.label - each.served.output[0]) ** 2 for each in settled]
    if task == "binary":
        pairs = ((each.served.output[0], each.label) for each in settled)
        return [(p - label) ** 2 - p * (1 - p) for p, label in pairs]
    return [_of_classes(each.served.output, each.label) for each in settled]


def _of_classes(output: Sequence[float], label: float) -> float:
    squares = sum(p * p for p in output)
    return (1 - 2 * output[int(label)] + squares) / 2 - (1 - squares) / 2
