"""How far a window lies from its version's reference, and whether that is more than chance.

Numbers and the score: the Kolmogorov-Smirnov distance over the frozen bins, missing values as the last one. Categories
and bools: the population stability index, rare values together; under no drift, PSI divided by (1/n + 1/m) is
chi-square distributed (Yurdakul, Naranjo: Statistical properties of the population stability index, 2020). Bins make
both robust: a wild value is only one more in the outermost bin.

A column has drifted when its distance is above both
- chance: the quantile that rows which wander as the reference's did (wander.py) pass so rarely that all columns of all
  windows of a year together keep their share of the declared false alarms;
- an effect that is worth a word (0.1 of either).
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from types import MappingProxyType

from schemas.events.monitor import FeatureDrift
from services.monitor.domain.bins import Bins, Column
from services.monitor.domain.wander import Law
from shared.reference import Counts, ks_distance, psi

MIN_ROWS = 100  # with known inputs, in a window and in a reference
EFFECT = 0.1
OVERWHELMING = 2.5  # times the threshold: alarms at once
_RARELY = 0.001
NO_EFFECTS: Mapping[str, float] = MappingProxyType({})
DRIFTS_SHARE = 0.5  # of the declared false alarms; the rest is decay's
YEAR = 365.25 * 86_400_000_000  # microseconds


def per_test(false_alarms_per_year: float, windows_per_year: float, columns: int) -> float:
    """Probability of a false alarm that one test may have (Bonferroni), at most 1 %.

    >>> per_test(4, 100, 20)
    0.002
    """
    return min(0.01, false_alarms_per_year / max(1.0, windows_per_year) / max(1, columns))


def windows_per_year(time_min: int, time_max: int) -> float:
    """If they all take as long as this one (µs)."""
    return YEAR / max(1.0, time_max - time_min)


def measure(
    bins: Bins, counts: Counts, *, probability: float, effects: Mapping[str, float] = NO_EFFECTS
) -> tuple[FeatureDrift, ...]:
    """Every column of a window against the reference, strongest first."""
    found = []
    for column, place in zip(bins.columns, bins.slices, strict=True):
        window, reference = counts[place], bins.reference[place]
        if min(window.sum(), reference.sum()) >= MIN_ROWS:
            found.append(_measured(column, window, reference, probability, effects.get(column.name)))
    return tuple(sorted(found, key=lambda each: (-each.value / each.threshold, each.feature)))


def of_scores(bins: Bins, counts: Counts) -> FeatureDrift | None:
    """Scores counted over the last column's bins (bins,), whatever the year's false alarms; None of too few."""
    reference = bins.reference[bins.slices[-1]]
    if min(counts.sum(), reference.sum()) < MIN_ROWS:
        return None
    return _measured(bins.columns[-1], counts, reference, _RARELY, None)


def _measured(
    column: Column, window: Counts, reference: Counts, probability: float, effect: float | None
) -> FeatureDrift:
    value, compared = psi(window, reference) if column.edges is None else (ks_distance(window, reference), None)
    law = Law(compared=compared, scale=sqrt(1 / int(window.sum()) + 1 / int(reference.sum())))
    law = law.stretched(column.wander.inflation(law, probability))
    threshold = max(law.beyond(probability), EFFECT)
    return FeatureDrift(
        feature=column.name,
        statistic="ks" if compared is None else "psi",
        value=value,
        threshold=threshold,
        drifted=value > threshold,
        p_value=law.probability(value),
        effect=effect,
    )


def by_effect(drifted: Sequence[FeatureDrift]) -> list[FeatureDrift]:
    """What does most to the expected loss first, for better or worse; what has no known effect by strength, last."""
    return sorted(drifted, key=lambda each: -abs(each.effect or 0.0))


def overwhelming(drift: FeatureDrift) -> bool:
    return drift.value > OVERWHELMING * drift.threshold
