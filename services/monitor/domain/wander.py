"""How far a column of the reference wanders by itself, against what independent rows would do.

The distance of independent rows has a known law (KS: Kolmogorov's; PSI: chi-square, Yurdakul, Naranjo 2020) with the
scale sqrt(1/n + 1/m). Rows that hang together come further on the average, and their distances scatter more: rain falls
in some blocks and not at all in most. Both are measured on the reference's own blocks: the mean stretches the law, and
a tail as long as that of a gamma law with this mean and scatter takes the place of the law's. As they are known from
some blocks only, what they have over independent rows is taken as much larger as Student's quantile is than the normal.
A KS law stretched far is that of a few independent rows, which is known exactly (Smirnov) and ends at 1: a window of
two days of weather is like two rows, and drifts when all of it lies where the reference hardly was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
from scipy.special import chdtrc, chdtri, gammainccinv, kolmogi, kolmogorov, ndtri, smirnov, smirnovi, stdtrit

from shared.reference import rare_bins, whole_of

_MEAN = sqrt(pi / 2) * np.log(2)  # of Kolmogorov's law
_SCATTER = sqrt(pi**2 / 12 - _MEAN**2) / _MEAN
_CALM = 1.3
_MANY = 100  # rows from which on Kolmogorov's law is that of Smirnov
_LEAST_P = 1e-15


@dataclass(frozen=True, kw_only=True)
class Law:
    """Of a column's distance under no drift: `compared` bins of a PSI, or none for a KS distance."""

    compared: int | None
    scale: float  # sqrt(1/n + 1/m)

    def beyond(self, probability: float) -> float:
        """The distance that is passed with this probability."""
        if self.compared is None:
            rows = self._rows
            return float(smirnovi(rows, probability / 2) if rows < _MANY else kolmogi(probability) * self.scale)
        return float(chdtri(max(1, self.compared - 1), probability)) * self.scale**2

    def probability(self, distance: float) -> float:
        """Of a distance as large as this, at least 1e-15."""
        if self.compared is None:
            rows, at_most_1 = self._rows, min(1.0, distance)
            few = rows < _MANY
            return max(
                _LEAST_P, min(1.0, float(2 * smirnov(rows, at_most_1) if few else kolmogorov(distance / self.scale)))
            )
        return max(_LEAST_P, float(chdtrc(max(1, self.compared - 1), distance / self.scale**2)))

    def stretched(self, factor: float) -> "Law":
        """Of distances so many times as long, on the average."""
        return Law(compared=self.compared, scale=self.scale * (factor if self.compared is None else sqrt(factor)))

    @property
    def _rows(self) -> int:
        """As many independent rows have this scale; of few the law is known exactly, and no distance is over 1."""
        return max(1, round(self.scale**-2))

    @property
    def scatter(self) -> float:
        """Standard deviation over mean."""
        return _SCATTER if self.compared is None else sqrt(2 / max(1, self.compared - 1))

    @property
    def mean(self) -> float:
        return _MEAN * self.scale if self.compared is None else max(1, self.compared - 1) * self.scale**2


@dataclass(frozen=True, kw_only=True)
class Wander:
    """Of the distances of so many `blocks`: their mean over that of independent rows, and how much they scatter."""

    ratio: float = 1.0
    scatter: float = 0.0  # standard deviation over mean
    blocks: int = 0

    @classmethod
    def of(cls, part: Mapping[str, Any]) -> "Wander":
        """From a column's part of the reference; one without blocks is taken as independent."""
        if "blocks" not in part:
            return STILL
        found, rows, whole = np.array(part["blocks"]["distances"]), part["blocks"]["rows"], whole_of(dict(part))
        compared = None if "edges" in part else int((~rare_bins(whole, rows)).sum()) + 1
        law = Law(compared=compared, scale=sqrt(1 / rows - 1 / max(rows + 1, int(whole.sum()))))  # blocks are of it
        mean = float(found.mean())
        return cls(
            ratio=max(1.0, mean / law.mean), scatter=float(found.std(ddof=1)) / max(mean, 1e-12), blocks=len(found)
        )

    @property
    def calm(self) -> bool:
        """Like independent rows, as far as is known."""
        return self.blocks > 0 and self.ratio < _CALM

    def inflation(self, law: Law, probability: float) -> float:
        """How much further than `law` of independent rows a distance is that is passed with this probability.

        >>> STILL.inflation(Law(compared=None, scale=0.1), 0.001)
        1.0
        """
        if not self.blocks:
            return 1.0
        tail = _tail(max(self.scatter, law.scatter), probability) / _tail(law.scatter, probability)
        unsure = float(stdtrit(self.blocks - 1, 1 - probability) / ndtri(1 - probability))
        return 1 + (self.ratio * tail - 1) * unsure


def _tail(scatter: float, probability: float) -> float:
    """Of a gamma law of mean 1."""
    shape = scatter**-2
    return float(gammainccinv(shape, probability)) / shape


STILL = Wander()
