"""A version's frozen reference: which bin a served value falls into, and how many of the training rows did.

Counts stand in one row of integers: for each feature its bins and, last, the missing or unseen; then the score's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.wander import STILL, Wander
from shared.matrix import Inputs
from shared.reference import Counts, whole_of

SCORE = "score"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One feature: numbers have edges, categories and bools a bin a value."""

    name: str
    edges: NDArray[np.float32] | None
    bins: int  # without the one for missing
    wander: Wander = STILL

    def codes(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """Bin of each value (n,); a value on an edge lies above it; `bins` is missing."""
        missing = np.isnan(values)
        if self.edges is not None:
            found: NDArray[np.intp] = np.searchsorted(self.edges, values, side="right")
        else:
            found = np.where(missing, 0, values).astype(np.intp)
        return np.where(missing, self.bins, found)


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The columns of a version in the order of its signature, then its score; and the reference's counts."""

    columns: tuple[Column, ...]
    reference: Counts

    @classmethod
    def of(cls, document: Mapping[str, Any], features: Sequence[str]) -> "Bins":
        """From the reference artifact.

        Raises:
            KeyError: it lacks a feature of the version.
        """
        described = [(name, document["features"][name]) for name in features] + [(SCORE, document["score"])]
        columns = tuple(_column(name, part) for name, part in described)
        return cls(columns=columns, reference=np.concatenate([whole_of(part) for _, part in described]))

    @property
    def slices(self) -> list[slice]:
        """Where each column's counts stand."""
        ends = np.cumsum([0, *(column.bins + 1 for column in self.columns)]).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]

    def calm(self, name: str) -> bool:
        """Whether a column's reference is like independent rows."""
        return next(column.wander.calm for column in self.columns if column.name == name)

    def count(self, inputs: Inputs, scores: NDArray[np.float64]) -> Counts:
        """Counts of inputs (n, features) and scores (m,)."""
        values = [*(inputs[:, index] for index in range(inputs.shape[1])), scores.astype(np.float32)]
        parts = [
            np.bincount(column.codes(value), minlength=column.bins + 1)
            for column, value in zip(self.columns, values, strict=True)
        ]
        return np.concatenate(parts).astype(np.int64)

    def count_scores(self, scores: NDArray[np.float64]) -> Counts:
        """Counts (bins,) of scores (n,) over the last column's bins alone."""
        column = self.columns[-1]
        return np.bincount(column.codes(scores.astype(np.float32)), minlength=column.bins + 1).astype(np.int64)


def _column(name: str, part: Mapping[str, Any]) -> Column:
    """Edges are taken to float32, as the inputs are: rounding keeps order, so what lay on an edge still does."""
    edges = np.array(part["edges"], dtype=np.float32) if "edges" in part else None
    return Column(name=name, edges=edges, bins=len(part["counts"]), wander=Wander.of(part))
