"""A version's frozen picture of its data: counts over bins that never move, so that windows can be held against it.

Counts are integers and merge; the same values give the same counts at any parallelism. Beside the counts of a column
stand its `blocks`: how far stretches of the reference, as long as a window, lie from the whole. Rows that hang together
(weather, the time of the day) wander further than independent ones, and what they did in the reference is no drift.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature

BINS = 256
LEAST_BLOCKS = 5
LEAST_ROWS = 50  # of a block
RARE = 5.0  # expected count below which values are counted together
Counts = NDArray[np.int64]


def quantile_edges(values: ArrayLike, bins: int = BINS) -> list[float]:
    """Inner edges of `bins` quantile bins, strictly increasing; equal ones are one, missing values do not count.

    >>> quantile_edges([1.0, 2.0, 3.0, 4.0], bins=2), quantile_edges([5.0, 5.0, 5.0])
    ([3.0], [5.0])
    """
    present = _present(values)
    if not len(present):
        return []
    inner = np.arange(1, bins) / bins
    edges: list[float] = np.unique(np.quantile(present, inner, method="higher")).tolist()
    return edges


def counts_of(edges: Sequence[float], values: ArrayLike) -> list[int]:
    """How many values lie in each of the len(edges) + 1 bins; a value on an edge lies in the bin above it.

    >>> counts_of([0.0, 10.0], [-1.0, 0.0, 5.0, 10.0, float("nan")])
    [1, 2, 1]
    """
    places = np.searchsorted(np.asarray(edges, dtype=np.float64), _present(values), side="right")
    counts: list[int] = np.bincount(places, minlength=len(edges) + 1).tolist()
    return counts


def feature_reference(feature: Feature, column: NDArray[np.float64]) -> dict[str, Any]:
    """One column of the stream matrix (n,): numbers by bins, categories and bools by value."""
    missing = int(np.isnan(column).sum())
    if isinstance(feature, (CategoryFeature, BoolFeature)):
        values = list(feature.values) if isinstance(feature, CategoryFeature) else ["false", "true"]
        counts = np.bincount(_present(column).astype(np.intp), minlength=len(values)).tolist()
        return {"type": feature.type, "values": values, "counts": counts, "unseen": missing}
    return {"type": "float", **binned(column), "missing": missing}


def binned(values: ArrayLike) -> dict[str, Any]:
    """Quantile edges of these values, and their own counts between them."""
    edges = quantile_edges(values)
    return {"edges": edges, "counts": counts_of(edges, values)}


def with_blocks(part: dict[str, Any], column: NDArray[np.float64], window: int) -> dict[str, Any]:
    """A column's part and its blocks of `window` rows, or shorter where the column (n,), in time order, holds few.

    Without `LEAST_BLOCKS` blocks of `LEAST_ROWS` rows there is nothing to say.
    """
    rows = min(window, len(column) // LEAST_BLOCKS)
    if rows < LEAST_ROWS:
        return part
    codes, whole = codes_of(part, column), whole_of(part)
    found = [
        distance(np.bincount(codes[start : start + rows], minlength=len(whole)), whole, ordered="edges" in part)
        for start in range(0, len(column) - rows + 1, rows)
    ]
    return part | {"blocks": {"rows": rows, "distances": found}}


def whole_of(part: dict[str, Any]) -> Counts:
    """A column's counts, and last those of missing or unseen values."""
    return np.array([*part["counts"], part.get("missing", part.get("unseen", 0))], dtype=np.int64)


def codes_of(part: dict[str, Any], column: NDArray[np.float64]) -> NDArray[np.intp]:
    """The bin of each value (n,); missing is the last one."""
    missing, last = np.isnan(column), len(part["counts"])
    if "edges" in part:
        found: NDArray[np.intp] = np.searchsorted(np.asarray(part["edges"], dtype=np.float64), column, side="right")
    else:
        found = np.where(missing, 0, column).astype(np.intp)
    return np.where(missing, last, found)


def distance(window: Counts, reference: Counts, *, ordered: bool) -> float:
    """Kolmogorov-Smirnov where the bins have an order, else the population stability index."""
    return ks_distance(window, reference) if ordered else psi(window, reference)[0]


def ks_distance(window: Counts, reference: Counts) -> float:
    """Largest distance of the cumulative shares, counts (bins,) in order.

    >>> ks_distance(np.array([0, 10]), np.array([5, 5]))
    0.5
    """
    shares = np.cumsum(window) / window.sum(), np.cumsum(reference) / reference.sum()
    return float(np.abs(shares[0] - shares[1]).max())


def psi(window: Counts, reference: Counts) -> tuple[float, int]:
    """Population stability index with half a count added to each bin, and how many bins were compared."""
    rare = rare_bins(reference, int(window.sum()))
    found, expected = (np.append(part[~rare], part[rare].sum()) + 0.5 for part in (window, reference))
    p, q = found / found.sum(), expected / expected.sum()
    return float(((p - q) * np.log(p / q)).sum()), len(p)


def rare_bins(reference: Counts, rows: int) -> NDArray[np.bool_]:
    """The bins in which less than `RARE` of so many rows are expected."""
    rare: NDArray[np.bool_] = reference * (rows / reference.sum()) < RARE
    return rare


def _present(values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    present: NDArray[np.float64] = column[~np.isnan(column)]
    return present
