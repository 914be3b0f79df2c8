"""Broken data told apart from drift, over a window of one version: what no world, only a broken source, would do.

- a new category: values that are not declared, in a twentieth more of the rows than were missing or unseen before;
- a missing surge: a feature that is seldom missing is missing in at least three tenths more of the rows;
- a frozen value: a number that varied has one value in the whole window;
- a wrong unit: most numbers lie outside the declared range, or further from what the version was trained on than three
  times its whole width; or the window is far from the reference and becomes like it when it is taken for another unit.
The rules are coarse on purpose: what they find is left out of training. Of a column that wanders by itself nobody can
say which unit a window is in: a cold day in Fahrenheit looks like a usual one in Celsius. There only the declared range
speaks, and what lies further away by as much as the column wanders.
"""

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from schemas.specs import FloatFeature, StreamSpec
from services.monitor.domain.alerts import Finding
from services.monitor.domain.bins import Bins
from services.monitor.domain.windows import Window
from shared.matrix import Inputs
from shared.reference import Counts

_SELDOM = 0.2
_SURGE = 0.3
_VARIED = 0.5  # of a number that varied, no bin of the reference holds more
_MOST = 0.5
_FAR = 3.0
_NEW = 0.05
_UNLIKE = 0.3  # KS distance of a window that another unit may explain,
_LIKE = 0.05  # and what is left of it then, beside chance
_DISTINCT = 20  # edges that a distribution needs to have a shape
_UNITS: Mapping[str, tuple[float, float]] = {  # value in the window = a * usual value + b
    "Celsius for Fahrenheit": (5 / 9, -160 / 9), "Fahrenheit for Celsius": (9 / 5, 32.0),
    "Kelvin for Celsius": (1.0, 273.15), "Celsius for Kelvin": (1.0, -273.15),
    "kilometres for miles": (1.609344, 0.0), "miles for kilometres": (1 / 1.609344, 0.0),
    "metres for feet": (0.3048, 0.0), "feet for metres": (1 / 0.3048, 0.0),
    "centimetres for inches": (2.54, 0.0), "inches for centimetres": (1 / 2.54, 0.0),
    "kilograms for pounds": (0.45359237, 0.0), "pounds for kilograms": (1 / 0.45359237, 0.0),
    "minutes for hours": (60.0, 0.0), "hours for minutes": (1 / 60, 0.0), "the other sign": (-1.0, 0.0),
    **{f"{factor:g} times": (factor, 0.0) for factor in (10.0, 100.0, 1000.0, 0.1, 0.01, 0.001)},
}  # fmt: skip
_LEAST = 100  # rows


def faults(window: Window, bins: Bins) -> list[Finding]:
    """One finding for each broken feature, by the first rule that finds it; they alarm at once."""
    if window.with_inputs < _LEAST:
        return []
    found = []
    for index, (column, place) in enumerate(zip(bins.columns[:-1], bins.slices[:-1], strict=True)):
        counts, reference = window.counts[place], bins.reference[place]
        unseen = int(window.unseen[index]) if len(window.unseen) else 0
        why = _new(counts, reference, unseen) or _missing(counts, reference, unseen)
        if why is None and column.edges is not None and counts[:-1].sum() >= _LEAST:
            why = (
                _frozen(window, index, reference[:-1])
                or _wrong_unit(window, index, int(counts[:-1].sum()))
                or (column.wander.calm and _other_unit(window, index, counts[:-1], reference[:-1], column.edges))
                or None
            )
        if why is not None:
            found.append(Finding(subject=column.name, explanation=f"{column.name}: {why}", overwhelming=True))
    return found


def overlap(spans: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a stretch of time meets one of the spans (from, until)."""
    return any(since <= end and start <= until for since, until in spans)


def _new(counts: Counts, reference: Counts, unseen: int) -> str | None:
    share, usually = unseen / counts.sum(), reference[-1] / max(1, reference.sum())
    return f"values that are not declared in {share:.0%} of the window" if share >= usually + _NEW else None


def _missing(counts: Counts, reference: Counts, unseen: int) -> str | None:
    share, usually = (counts[-1] - unseen) / counts.sum(), reference[-1] / max(1, reference.sum())
    if usually > _SELDOM or share < usually + _SURGE:
        return None
    return f"missing in {share:.0%} of the window, {usually:.0%} of the reference"


def _frozen(window: Window, index: int, reference: Counts) -> str | None:
    if window.lows[index] != window.highs[index] or reference.max() > _VARIED * reference.sum():
        return None
    return f"frozen at {window.lows[index]:g}"


def _wrong_unit(window: Window, index: int, present: int) -> str | None:
    for count, where in (
        (window.out_of_range, "outside the declared range"),
        (window.beyond, "far from the reference"),
    ):
        if count[index] > _MOST * present:
            return f"{count[index] / present:.0%} {where}, from {window.lows[index]:g} to {window.highs[index]:g}"
    return None


def _other_unit(
    window: Window, index: int, counts: Counts, reference: Counts, bounds: NDArray[np.float32]
) -> str | None:
    """Were the reference in another unit, it would have the window's shares below each edge, and its ends.

    What really changed to just the values of another unit is taken for it; people are told in any case.
    """
    edges = bounds.astype(np.float64)
    if len(edges) < _DISTINCT or reference.sum() < _LEAST:
        return None
    now, then = (np.cumsum(part)[:-1] / part.sum() for part in (counts, reference))
    unlike = float(np.abs(now - then).max())
    if unlike < _UNLIKE:
        return None
    ends = float(window.lows[index]), float(window.highs[index])
    off = {name: _off(edges, ends, *unit) for name, unit in _UNITS.items()}
    left = {
        name: float(np.abs(now - _below(edges, then, *_UNITS[name])).max()) for name, each in off.items() if each <= 1
    }
    if not left:
        return None
    name = min(left, key=lambda each: (round(left[each], 2), off[each]))
    likely = left[name] <= min(_LIKE + 1.36 / sqrt(int(counts.sum())), unlike / 3)
    return f"looks like {name}: KS {unlike:.2f} from the reference, {left[name]:.2f} if so" if likely else None


def _off(edges: NDArray[np.float64], ends: tuple[float, float], factor: float, offset: float) -> float:
    """How far the window ends from the outermost edges in the other unit, over the distance of these."""
    low, high = sorted((float(edges[0]) * factor + offset, float(edges[-1]) * factor + offset))
    return max(abs(ends[0] - low), abs(ends[1] - high)) / (high - low)


def _below(
    edges: NDArray[np.float64], shares: NDArray[np.float64], factor: float, offset: float
) -> NDArray[np.float64]:
    """The shares that would lie below the edges if every value were `factor` times itself plus `offset`."""
    found = np.interp((edges - offset) / factor, edges, shares, left=0.0, right=1.0)
    return found if factor > 0 else 1 - found


def limits(bins: Bins, spec: StreamSpec) -> Inputs:
    """Declared minimum and maximum, then the ends of what is not far, as rows; a column a feature: float32 (4, n)."""
    rows = []
    for column in bins.columns[:-1]:
        declared = spec.features.get(column.name)
        low, high, near = -np.inf, np.inf, (-np.inf, np.inf)
        if isinstance(declared, FloatFeature):
            low = -np.inf if declared.min is None else declared.min
            high = np.inf if declared.max is None else declared.max
        if column.edges is not None and len(column.edges) > 1:
            first, last = float(column.edges[0]), float(column.edges[-1])
            far = _FAR * column.wander.ratio * (last - first)
            near = (first - far, last + far)
        rows.append((low, high, *near))
    return np.array(rows, dtype=np.float32).T
