"""The course of one column's distances over closed windows: slow drift that no single window shows, and when it began.

Page's cumulative sum (Page: Continuous inspection schemes, Biometrika 41, 1954; with the mean learned on the way it is
called Page-Hinkley) of the normal score of each window's p-value, less half a standard deviation. How long it runs
between false alarms is Siegmund's approximation (Sequential Analysis, 1985), which takes windows as independent; so
only columns are asked whose reference is like independent rows. A distance below half of what is worth a word adds
nothing.
"""

from collections.abc import Mapping
from math import log

from msgspec import Struct, field
from scipy.special import ndtri

from schemas.events.monitor import FeatureDrift
from services.monitor.domain.alerts import Finding
from services.monitor.domain.bins import Bins
from services.monitor.domain.clock import moment
from services.monitor.domain.drift import EFFECT, NO_EFFECTS, measure, overwhelming, per_test
from shared.reference import Counts

_SLACK = 0.5  # standard deviations a window
_MOST = 3.0  # of one window: what is further is told by it alone
_OVERSHOOT = 1.166
_REMEMBERED = 50  # windows


def bound(windows: float) -> float:
    """What the sum passes by chance once in so many windows.

    >>> round(bound(1000.0), 2)
    5.06
    """
    reach = 1.0
    for _ in range(50):  # a contraction: exp(x) - x - 1 = windows * 2 slack², x = 2 slack (bound + overshoot)
        reach = log(windows * 2 * _SLACK**2 + 1 + reach)
    return max(1.0, reach / (2 * _SLACK) - _OVERSHOOT)


class Course(Struct, kw_only=True):
    """Starts (µs) and strengths (distance over threshold) of the newest windows, and the sum over all of them."""

    starts: list[int] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    total: float = 0.0
    rising: int = 0  # start of the first window since the total was nothing
    rises: bool = False  # whether the newest window added to it

    def hear(self, start: int, strength: float, value: float, p_value: float, most: float) -> None:
        """A closed window; the total stays near `most`, so that it comes down again when the drift is over."""
        score = min(_MOST, -float(ndtri(p_value)))
        score = score if value > EFFECT / 2 else min(score, 0.0)
        self.rising = self.rising if self.total > 0 else start
        self.total = min(max(0.0, self.total + score - _SLACK), most + 1)
        self.rises = score > _SLACK
        self.starts = [*self.starts, start][-_REMEMBERED:]
        self.strengths = [*self.strengths, strength][-_REMEMBERED:]

    def slow(self, most: float) -> bool:
        """Whether the newest window is one of many that together are more than chance."""
        return self.rises and self.total > most

    def streak(self) -> int:
        """How many of the newest windows have drifted, one after the other."""
        return next((count for count, each in enumerate(reversed(self.strengths)) if each <= 1), len(self.strengths))

    def began(self) -> int:
        """Start of the window in which the drift began that the newest one shows."""
        return self.starts[-self.streak()] if self.streak() else self.rising

    def sudden(self) -> bool:
        """Whether it came from one window to the next: the one before was not half as far, though there was one."""
        before = self.strengths[: -self.streak()] if self.streak() else []
        return bool(before) and before[-1] < self.strengths[-1] / 2


def drift_of(
    bins: Bins,
    counts: Counts,
    *,
    start: int,
    false_alarms: float,
    courses: dict[str, Course] | None,
    effects: Mapping[str, float] = NO_EFFECTS,
) -> tuple[FeatureDrift, ...]:
    """A closed window that began at `start` (µs), by itself and in the course of things; `courses` are moved on.

    Of the `false_alarms` that a window may have, single windows and the course of them get one half each. Without
    courses (a faulty window) nothing is remembered.
    """
    columns, half = len(bins.columns), false_alarms / 2
    drift = measure(bins, counts, probability=per_test(half, 1.0, columns), effects=effects)
    if courses is None:
        return drift
    most = bound(max(1.0, columns / half))
    return tuple(_coursed(each, courses, start, most, calm=bins.calm(each.feature)) for each in drift)


def _coursed(drift: FeatureDrift, courses: dict[str, Course], start: int, most: float, *, calm: bool) -> FeatureDrift:
    course = courses.setdefault(drift.feature, Course())
    course.hear(start, drift.value / drift.threshold, drift.value, drift.p_value or 1.0, most)
    if not (drift.drifted or (calm and course.slow(most))):
        return drift
    return drift.model_copy(update={"drifted": True, "since": moment(course.began())})


def finding(drift: FeatureDrift, course: Course) -> Finding:
    """Of a column that has drifted, in this window or little by little; `since` when that came from one to the next."""
    if drift.value > drift.threshold:
        words = f"{drift.feature}: {drift.statistic} {drift.value:.3f} above {drift.threshold:.3f}"
    else:
        words = f"{drift.feature}: {drift.statistic} {drift.value:.3f}, kept up since {moment(course.began()):%F %R}"
    return Finding(
        subject=drift.feature,
        explanation=words,
        overwhelming=overwhelming(drift) or drift.value <= drift.threshold,
        since=course.began() if course.sudden() else None,
    )
