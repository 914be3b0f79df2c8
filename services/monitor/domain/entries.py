"""What a join keeps of an event, and what leaves it. Times are microseconds of event time."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from shared.records import MAX_NUMBER


class Score(Struct, array_like=True, frozen=True, gc=False):
    """A version's answer: (score,) or the probabilities in the order of the declared classes."""

    version: int
    revision: int
    arm: str
    output: tuple[float, ...]
    weight: float = 1.0  # of its label among those that come; 0: it was not to have one

    def fit(self, width: int) -> "Score":
        """With at least so many outputs: a class that was declared since had no probability."""
        if len(self.output) >= width and max(map(abs, self.output), default=0.0) <= MAX_NUMBER:
            return self
        missing = (0.0,) * (width - len(self.output))
        return replace(self, output=(*map(_held, self.output), *missing))


class Entry(Struct, array_like=True, gc=False):
    """What is known of one event: its label, who served it, who scored it in the shadow."""

    time: int
    partition: int
    label: float | None = None
    served: Score | None = None
    shadow: Score | None = None
    slices: tuple[int, ...] = ()
    bucket: int = -1  # of its entity (groups.py), once an arm of a rollout has scored it
    settled: bool = False  # measured, and kept only so that repeats are known

    def matured(self, id: str) -> "Settled":
        """As it leaves; it has its label and was served."""
        assert self.label is not None
        assert self.served is not None
        arms = self.served, self.shadow
        return Settled(self.time, self.partition, id, self.label, *arms, self.slices, self.bucket)


class Settled(Struct, frozen=True, gc=False):
    """A matured, labelled prediction on its way out of the join."""

    time: int
    partition: int
    id: str
    label: float
    served: Score
    shadow: Score | None
    slices: tuple[int, ...] = ()
    bucket: int = -1

    def fit(self, width: int) -> "Settled":
        """Both scores with at least so many outputs, and every number as float32 could hold it."""
        served, shadow = self.served.fit(width), self.shadow and self.shadow.fit(width)
        if served is self.served and shadow is self.shadow and abs(self.label) <= MAX_NUMBER:
            return self
        return replace(self, label=_held(self.label), served=served, shadow=shadow)


def outputs_of(scores: Sequence[Score], width: int) -> NDArray[np.float64]:
    """Outputs (n, columns) as `fit` makes them."""
    outputs = [score.output for score in scores]
    if min(map(len, outputs), default=width) < width:
        outputs = [score.fit(width).output for score in scores]
    return np.clip(np.array(outputs, dtype=np.float64), -MAX_NUMBER, MAX_NUMBER)


def fitted(settled: Sequence[Settled], width: int) -> Sequence[Settled]:
    """Each as `fit` makes it; the usual ones as they are."""
    scores = chain((each.served for each in settled), (each.shadow for each in settled if each.shadow))
    outputs, labels = [score.output for score in scores], [each.label for each in settled]
    short = min(map(len, outputs), default=width) < width
    numbers = [*map(max, outputs), *map(min, outputs), *labels]
    if short or max(map(abs, numbers), default=0.0) > MAX_NUMBER:
        return [each.fit(width) for each in settled]
    return settled


def _held(number: float) -> float:
    """Within float32's range, so that sums of fourth powers stay finite."""
    return max(-MAX_NUMBER, min(MAX_NUMBER, number))
