"""A version's frozen picture of its data: counts over bins that never move, so that windows can be held against it.

Counts are integers and merge; the same values give the same counts at any parallelism.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.specs import BoolFeature, CategoryFeature, Feature

BINS = 256


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


def _present(values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    present: NDArray[np.float64] = column[~np.isnan(column)]
    return present
