"""How far a window lies from its version's reference, and whether that is more than chance and more than usual.

Numbers and the score: the Kolmogorov-Smirnov distance over the frozen bins, missing values as the last one. Categories
and bools: the population stability index, rare values together; under no drift, PSI divided by (1/n + 1/m) is
chi-square distributed (Yurdakul, Naranjo: Statistical properties of the population stability index, 2020). Bins make
both robust: a wild value is only one more in the outermost bin.

A column has drifted when its distance is above all of
- chance: the quantile that independent rows pass so rarely that all columns of all windows of a year together keep the
  declared number of false alarms;
- an effect that is worth a word (0.1 of either);
- what is usual: half as much again as the upper tenth of this column's past windows, because seasons and weather wander
  without anything being wrong.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Literal

import numpy as np
from scipy.special import chdtri, kolmogi

from schemas.events.monitor import FeatureDrift
from services.monitor.domain.bins import Bins, Column, Counts

MIN_ROWS = 100  # with known inputs, in a window and in a reference
_EFFECT = 0.1
_UNUSUAL = 1.5
_REMEMBERED = 30  # windows a column
_ENOUGH = 5  # windows a column
_RARE = 5.0  # expected count below which values are counted together
OVERWHELMING = 2.5  # times the threshold: alarms at once
YEAR = 365.25 * 86_400_000_000  # microseconds
History = dict[str, list[float]]


def per_test(false_alarms_per_year: float, windows_per_year: float, columns: int) -> float:
    """Probability of a false alarm that one test may have (Bonferroni), at most 1 %.

    >>> per_test(4, 100, 20)
    0.002
    """
    return min(0.01, false_alarms_per_year / max(1.0, windows_per_year) / max(1, columns))


def windows_per_year(time_min: int, time_max: int) -> float:
    """If they all take as long as this one (µs)."""
    return YEAR / max(1.0, time_max - time_min)


def ks_distance(window: Counts, reference: Counts) -> float:
    """Largest distance of the cumulative shares, counts (bins,) in order.

    >>> ks_distance(np.array([0, 10]), np.array([5, 5]))
    0.5
    """
    shares = np.cumsum(window) / window.sum(), np.cumsum(reference) / reference.sum()
    return float(np.abs(shares[0] - shares[1]).max())


def psi(window: Counts, reference: Counts) -> tuple[float, int]:
    """Population stability index with half a count added to each bin, and how many bins were compared."""
    rows = window.sum()
    rare = reference * (rows / reference.sum()) < _RARE
    found, expected = (np.append(part[~rare], part[rare].sum()) + 0.5 for part in (window, reference))
    p, q = found / found.sum(), expected / expected.sum()
    return float(((p - q) * np.log(p / q)).sum()), len(p)


def measure(
    bins: Bins, counts: Counts, *, probability: float, history: Mapping[str, Sequence[float]]
) -> tuple[FeatureDrift, ...]:
    """Every column of a window against the reference, strongest first."""
    found = []
    for column, place in zip(bins.columns, bins.slices, strict=True):
        window, reference = counts[place], bins.reference[place]
        if min(window.sum(), reference.sum()) < MIN_ROWS:
            continue
        usual = history.get(column.name, ())
        value, chance, statistic = _distance(column, window, reference, probability)
        threshold = max(chance, _EFFECT, _UNUSUAL * _upper_tenth(usual))
        found.append(
            FeatureDrift(
                feature=column.name,
                statistic=statistic,
                value=value,
                threshold=threshold,
                drifted=value > threshold,
            )
        )
    return tuple(sorted(found, key=lambda each: (-each.value / each.threshold, each.feature)))


def _upper_tenth(usual: Sequence[float]) -> float:
    """Of past distances, once there are some: one great distance does not make the next one usual."""
    return float(np.quantile(usual, 0.9, method="lower")) if len(usual) >= _ENOUGH else 0.0


def _distance(
    column: Column, window: Counts, reference: Counts, probability: float
) -> tuple[float, float, Literal["ks", "psi"]]:
    """Distance, and the one that chance alone passes with `probability`."""
    spread = 1 / int(window.sum()) + 1 / int(reference.sum())
    if column.edges is not None:
        return ks_distance(window, reference), float(kolmogi(probability)) * sqrt(spread), "ks"
    value, compared = psi(window, reference)
    return value, float(chdtri(max(1, compared - 1), probability)) * spread, "psi"


def remember(history: History, drift: Sequence[FeatureDrift]) -> None:
    """Past distances of each column, the newest ones."""
    for each in drift:
        history[each.feature] = [*history.get(each.feature, []), each.value][-_REMEMBERED:]


def overwhelming(drift: FeatureDrift) -> bool:
    return drift.value > OVERWHELMING * drift.threshold
