"""How models are delivered: the four measures of DORA, of champions instead of software.

Forsgren, Humble, Kim: Accelerate, 2018; https://dora.dev/guides/dora-metrics-four-keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

_WEEK_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Reign:
    """A version is champion from then on; `restored` when it had been before."""

    version: int
    since: datetime
    restored: bool


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Of a model. Times are by the clock; None where there is nothing to measure.

    `lead_seconds`: from the request of a training to its version being champion, the median. `per_week`: new champions,
    from the first until now. `failure_rate`: of new champions, the share that was taken back. `restore_seconds`: from
    such a one becoming champion to its being replaced by one before, the median.
    """

    deployments: int
    lead_seconds: float | None
    per_week: float | None
    failures: int
    failure_rate: float | None
    restore_seconds: float | None


def reigns(steps: Sequence[tuple[datetime, int]]) -> Iterator[Reign]:
    """Out of who was champion at each revision, oldest first.

    >>> t = datetime(2026, 1, 1)
    >>> [(each.version, each.restored) for each in reigns([(t, 1), (t, 1), (t, 2), (t, 1)])]
    [(1, False), (2, False), (1, True)]
    """
    seen: set[int] = set()
    before = None
    for at, champion in steps:
        if champion != before:
            yield Reign(version=champion, since=at, restored=champion in seen)
            seen.add(champion)
        before = champion


def former(steps: Sequence[tuple[datetime, int]]) -> int | None:
    """The champion that a rollback brings back: the one before, unless this one was itself brought back.

    >>> t = datetime(2026, 1, 1)
    >>> [former([(t, version) for version in champions]) for champions in ([1], [1, 2], [1, 2, 1], [1, 2, 1, 3])]
    [None, 1, None, 1]
    """
    *before, last = reigns(steps)
    return before[-1].version if before and not last.restored else None


def delivery(steps: Sequence[tuple[datetime, int]], requested: Mapping[int, datetime], now: datetime) -> Delivery:
    """`requested`: when the training of each version was asked for."""
    found = list(reigns(steps))
    new = [each for each in found if not each.restored]
    leads = [(each.since - requested[each.version]).total_seconds() for each in new if each.version in requested]
    fallen = [(one, other) for one, other in pairwise(found) if other.restored]
    failures = [(one, other) for one, other in fallen if not one.restored]
    restores = [(other.since - one.since).total_seconds() for one, other in failures]
    weeks = (now - new[0].since).total_seconds() / _WEEK_SECONDS if new else 0.0
    return Delivery(
        deployments=len(new),
        lead_seconds=median(leads) if leads else None,
        per_week=len(new) / weeks if weeks > 0 else None,
        failures=len(failures),
        failure_rate=len(failures) / len(new) if new else None,
        restore_seconds=median(restores) if restores else None,
    )
