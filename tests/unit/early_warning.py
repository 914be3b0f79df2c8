"""Seeded replays for the early warning: a reference, then windows of the same stream, and what was alarmed of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import beta

from schemas.specs import FloatFeature
from services.monitor.domain.alerts import Alarm, Alert
from services.monitor.domain.bins import Bins
from services.monitor.domain.course import Course, drift_of, finding
from services.monitor.domain.drift import DRIFTS_SHARE
from shared.reference import binned, feature_reference, with_blocks

Rows = NDArray[np.float64]
Stream = Callable[[np.random.Generator, int], NDArray[np.float64]]
NUMBER = FloatFeature(type="float")
WINDOWS_A_YEAR = 400.0
BUDGET = 4.0


def independent(rng: np.random.Generator, rows: int) -> Rows:
    return rng.normal(size=rows)


def autocorrelated(rows_kept: float) -> Stream:
    """AR(1), forgotten over so many rows."""

    def stream(rng: np.random.Generator, rows: int) -> Rows:
        kept, lead = np.exp(-1 / rows_kept), int(10 * rows_kept)
        shocks = rng.normal(size=rows + lead) * np.sqrt(1 - kept * kept)
        return np.asarray(lfilter([1.0], [1.0, -kept], shocks))[lead:]

    return stream


def weather(rng: np.random.Generator, rows: int) -> Rows:
    """40 rows an hour share a value with a daily cycle that is forgotten over half a day."""
    hours = np.arange(rows // 40 + 1)
    hourly = autocorrelated(12)(rng, len(hours)) + 1.5 * np.sin(2 * np.pi * hours / 24)
    return np.repeat(hourly, 40)[:rows] + rng.normal(size=rows) * 0.1


def rain(rng: np.random.Generator, rows: int) -> Rows:
    """Nothing for days, then hours of it."""
    return np.repeat(np.maximum(0.0, autocorrelated(8)(rng, rows // 40 + 1) - 1.5), 40)[:rows]


@dataclass(frozen=True, kw_only=True)
class Replay:
    """`columns` streams of their own and a score that is the first of them; the first rows are the reference."""

    stream: Stream
    reference: int = 20_000
    window: int = 1000
    windows: int = 50
    columns: int = 5

    def __call__(self, seed: int, spoil: Callable[[int, Rows], Rows] | None = None) -> list[Alert]:
        """The alerts of one seed; `spoil(window number, rows)` changes windows before they are seen."""
        return [alert for alert in self.alerts(seed, spoil) if alert is not None]

    def alerts(self, seed: int, spoil: Callable[[int, Rows], Rows] | None = None) -> Iterator[Alert | None]:
        """Window by window."""
        rng, rows = np.random.default_rng(seed), self.reference + self.window * self.windows
        table = np.column_stack([self.stream(rng, rows) for _ in range(self.columns)])
        bins, alarm, courses = self._bins(table[: self.reference]), Alarm(), dict[str, Course]()
        for number in range(self.windows):
            start = self.reference + number * self.window
            seen = table[start : start + self.window]
            seen = seen if spoil is None else spoil(number, seen.copy())
            counts = bins.count(seen.astype(np.float32), seen[:, 0])
            drift = drift_of(
                bins, counts, start=number, false_alarms=BUDGET * DRIFTS_SHARE / WINDOWS_A_YEAR, courses=courses
            )
            found = [finding(each, courses[each.feature]) for each in drift if each.drifted]
            yield alarm.hear(found, str(number))
            alarm.over()

    def _bins(self, table: Rows) -> Bins:
        names = [f"x{index}" for index in range(self.columns)]
        features = {
            name: with_blocks(feature_reference(NUMBER, column), column, self.window)
            for name, column in zip(names, table.T, strict=True)
        }
        score = with_blocks(binned(table[:, 0]), table[:, 0], self.window)
        return Bins.of({"features": features, "score": score}, names)


def upper_rate(alarms: int, windows: int) -> float:
    """The 95 % upper bound (Clopper, Pearson 1934) of a share of windows, as alarms a year."""
    return float(beta.ppf(0.95, alarms + 1, windows - alarms)) * WINDOWS_A_YEAR
