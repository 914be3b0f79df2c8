"""Broken data told apart from drift, over a window of one version: what no world, only a broken source, would do.

- a missing surge: a feature that is seldom missing is missing in at least three tenths more of the rows;
- a frozen value: a number that varied has one value in the whole window;
- a wrong unit: most numbers lie outside the declared range, or further from what the version was trained on than
  three times its whole width.
The rules are coarse on purpose: what they find is left out of training.
"""

import numpy as np

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
_LEAST = 100  # rows


def faults(window: Window, bins: Bins) -> list[Finding]:
    """One finding for each broken feature, by the first rule that finds it; they alarm at once."""
    if window.with_inputs < _LEAST:
        return []
    found = []
    for index, (column, place) in enumerate(zip(bins.columns[:-1], bins.slices[:-1], strict=True)):
        counts, reference = window.counts[place], bins.reference[place]
        why = _missing(counts, reference)
        if why is None and column.edges is not None and counts[:-1].sum() >= _LEAST:
            why = _frozen(window, index, reference[:-1]) or _wrong_unit(window, index, int(counts[:-1].sum()))
        if why is not None:
            found.append(Finding(subject=column.name, explanation=f"{column.name}: {why}", overwhelming=True))
    return found


def _missing(counts: Counts, reference: Counts) -> str | None:
    share, usually = counts[-1] / counts.sum(), reference[-1] / max(1, reference.sum())
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
            near = (first - _FAR * (last - first), last + _FAR * (last - first))
        rows.append((low, high, *near))
    return np.array(rows, dtype=np.float32).T
