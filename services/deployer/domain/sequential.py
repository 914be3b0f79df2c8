"""Is the challenger worse than the champion? A test that may be looked at after every label.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory
and asymptotic confidence sequences (2021, arXiv:2103.06476, one-sided form of proposition B.1), on the mean of paired
loss differences, challenger minus champion: each bound holds at all looks at once with probability 1 - error_rate.

- promote when the upper bound is below `margin`: a challenger that is worse by the margin passes at most so often;
- roll back when the lower bound is above `margin`: a challenger as good as the champion, or worse by less than the
  margin, falls at most so often;
- with `max_labels` pairs and neither, the point estimate decides: promote up to half the margin, which treats an equal
  challenger and one that is worse by the margin alike. Labels then were too few for the noise to keep both promises.

Losses are bounded or light-tailed. Events of a day share its weather, so they are not independent: below `MIN_PAIRS`
the verdict is wait, and only a difference beyond the margin, not beyond 0, speaks against a challenger.
"""

from math import log, sqrt
from typing import Literal

from schemas.events.monitor import Pairs

Verdict = Literal["promote", "roll_back", "wait"]
MIN_PAIRS = 500
_TIGHTEST_AT = 1000  # pairs; the bound is valid at any number and tightest about here


def half_width(n: int, variance: float, error_rate: float) -> float:
    """Distance from the mean of `n` values to either one-sided bound.

    >>> round(half_width(1000, 0.01, 0.05), 4), round(half_width(10_000, 0.01, 0.05), 4)
    (0.0088, 0.003)
    """
    tuned = -2 * log(2 * error_rate)
    rho2 = (tuned + log(tuned + 1)) / _TIGHTEST_AT
    spread = n * rho2 + 1
    return sqrt(variance * 2 * spread / (n * n * rho2) * log(1 + sqrt(spread) / (2 * error_rate)))


def verdict_of(pairs: Pairs, *, margin: float, error_rate: float, max_labels: int) -> Verdict:
    """What the pairs so far say of the challenger; `margin` is in units of the loss.

    >>> verdict_of(Pairs(n=2000, total=2.0, total_squares=20.0), margin=0.02, error_rate=0.05, max_labels=20_000)
    'promote'
    >>> verdict_of(Pairs(n=2000, total=100.0, total_squares=40.0), margin=0.02, error_rate=0.05, max_labels=20_000)
    'roll_back'
    """
    if pairs.n < min(MIN_PAIRS, max_labels):
        return "wait"
    mean = pairs.total / pairs.n
    variance = max(0.0, pairs.total_squares / pairs.n - mean * mean)
    width = half_width(pairs.n, variance, error_rate)
    if mean + width < margin:
        return "promote"
    if mean - width > margin:
        return "roll_back"
    if pairs.n < max_labels:
        return "wait"
    return "promote" if mean <= margin / 2 else "roll_back"
