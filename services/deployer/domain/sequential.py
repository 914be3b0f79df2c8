"""Is the challenger worse than the champion? A test that may be looked at after every label.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory
and asymptotic confidence sequences (2021, arXiv:2103.06476, one-sided form of proposition B.1; the boundary is the
normal mixture of Howard, Ramdas, McAuliffe, Sekhon, Annals of Statistics 49, 2021), on the mean of paired loss
differences, challenger minus champion: each bound holds at all looks at once with probability 1 - error_rate.

- promote when the upper bound is below `margin`: a challenger that is worse by the margin passes at most so often;
- roll back when the lower bound is above 0: a challenger as good as the champion falls at most so often. What lies
  between goes the way that shows first, which is the way of the nearer end;
- with `max_labels` pairs and neither, the point estimate decides: promote up to half the margin, which treats an equal
  challenger and one that is worse by the margin alike. Labels then were too few for the noise to keep both promises.

Pairs hang together: those of an entity, those of a day that share its weather. So the variance is the largest of what
independent pairs, groups of entities and stretches of time say, each between groups (Liang, Zeger, Biometrika 73, 1986;
Maharaj et al., Anytime-valid inference in A/B experiments, arXiv:2302.10108, cluster the same sequence so), and larger
by as much as Student's quantile is for so many effective groups (Carter, Schnepel, Steigerwald, Review of Economics and
Statistics 99, 2017). Looks stay as valid as before: pairs that agree make the mean move less between two looks than
independent ones would, and of two Gaussian sequences of equal variances the one that agrees more with itself passes a
boundary less often (Slepian, Bell System Technical Journal 41, 1962).

Losses are bounded or light-tailed; below `MIN_PAIRS` the verdict is wait. Groups so few that nothing can be estimated
between them are left out: of a stream with three entities the test asks about just these three.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import Literal

from schemas.events.monitor import Groups, Pairs
from schemas.specs import Rollout as Policy

Verdict = Literal["promote", "roll_back", "wait"]
MIN_PAIRS = 500
_MIN_GROUPS = 8  # effective ones
_TIGHTEST_AT = 1000  # pairs; the bound is valid at any number and tightest about here
_STUDENT = 2.5  # (z² + 1) / 4 at the z = 3 of such bounds: Student's quantile is about z (1 + 2.5 / degrees of freedom)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of the mean loss difference; either is passed by the truth at any time with at most the error rate."""

    mean: float
    lower: float
    upper: float


def bounds_of(pairs: Pairs, error_rate: float) -> Bounds | None:
    """None below `MIN_PAIRS`.

    >>> bounds = bounds_of(Pairs(n=1000, total=1.0, total_squares=10.0), 0.05)
    >>> bounds and [round(each, 4) for each in (bounds.lower, bounds.mean, bounds.upper)]
    [-0.0078, 0.001, 0.0098]
    """
    if pairs.n < MIN_PAIRS:
        return None
    mean = pairs.total / pairs.n
    width = half_width(pairs.n, variance_of(pairs), error_rate)
    return Bounds(mean=mean, lower=mean - width, upper=mean + width)


def half_width(n: int, variance: float, error_rate: float) -> float:
    """Distance from the mean of `n` values to either one-sided bound.

    >>> round(half_width(1000, 0.01, 0.05), 4), round(half_width(10_000, 0.01, 0.05), 4)
    (0.0088, 0.003)
    """
    tuned = -2 * log(2 * error_rate)
    rho2 = (tuned + log(tuned + 1)) / _TIGHTEST_AT
    spread = n * rho2 + 1
    return sqrt(variance * 2 * spread / (n * n * rho2) * log(1 + sqrt(spread) / (2 * error_rate)))


def variance_of(pairs: Pairs) -> float:
    """Of a pair, as large as it takes for the mean of `n` independent ones to vary as this mean does."""
    mean = pairs.total / pairs.n
    independent = max(0.0, pairs.total_squares / pairs.n - mean * mean)
    return max(independent, *(_between(each, mean) for each in pairs.groups), 0.0)


def _between(groups: Groups, mean: float) -> float:
    """The same from the groups' totals, less their share of the mean; 0 where there are too few to tell.

    >>> by_two = Groups(by="entity", groups=500, n=1000, counts_squared=2000, products=0.0, totals_squared=20.0)
    >>> round(_between(by_two, 0.0), 4)
    0.0202
    """
    effective = groups.n * groups.n / groups.counts_squared if groups.counts_squared else 0.0
    if effective < _MIN_GROUPS:
        return 0.0
    squares = groups.totals_squared - 2 * mean * groups.products + mean * mean * groups.counts_squared
    return max(0.0, squares) / groups.n * (1 + _STUDENT / (effective - 1)) ** 2


def verdict_of(pairs: Pairs, policy: Policy) -> Verdict:
    """What the pairs so far say of the challenger; the margin is in units of the loss.

    >>> verdict_of(Pairs(n=2000, total=2.0, total_squares=20.0), Policy(margin=0.02))
    'promote'
    >>> verdict_of(Pairs(n=2000, total=100.0, total_squares=40.0), Policy(margin=0.02))
    'roll_back'
    """
    bounds = bounds_of(pairs, policy.error_rate)
    if bounds and bounds.upper < policy.margin:
        return "promote"
    if bounds and bounds.lower > 0:
        return "roll_back"
    if pairs.n < policy.max_labels:
        return "wait"
    return "promote" if pairs.total / pairs.n <= policy.margin / 2 else "roll_back"
