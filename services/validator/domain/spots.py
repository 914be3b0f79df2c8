"""Where a model is weakest: a search over all parts of the rows that one or two simple conditions make.

With a matrix of conditions (n, conditions) of 0 and 1, the sums of anything over every part that two conditions make
are one matrix product, so all pairs are looked at. What stands out of so many has partly won by chance: parts are
sought in one half of the rows and measured in the other. Sagadeeva, Boehm: SliceLine, SIGMOD 2021.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.quality import Floats

_QUARTERS = (0.25, 0.5, 0.75)
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """The rows (n,) for which something simple holds, of one feature, in words."""

    feature: str
    words: str
    rows: Rows


@dataclass(frozen=True)
class Spot:
    """A part of the rows, in words."""

    words: str
    rows: Rows


def of_numbers(feature: str, column: Floats, sought: Rows) -> Iterator[Condition]:
    """Quarters by the rows `sought`, and missing."""
    known = column[sought & ~np.isnan(column)]
    edges = np.unique(np.quantile(known, _QUARTERS)) if len(known) else np.zeros(0)
    codes = np.where(np.isnan(column), -1, np.searchsorted(edges, column, side="right"))
    for code in range(len(edges) + 1):
        bounds = [f"from {edges[code - 1]:g}"] if code else []
        bounds += [f"below {edges[code]:g}"] if code < len(edges) else []
        yield Condition(feature, f"{feature} {' and '.join(bounds) or 'known'}", codes == code)
    yield Condition(feature, f"{feature} missing", codes == -1)


def of_values(feature: str, column: Floats, values: Sequence[str]) -> Iterator[Condition]:
    """Each value, and missing."""
    for code, value in enumerate(values):
        yield Condition(feature, f"{feature}={value}", column == code)
    yield Condition(feature, f"{feature} missing", np.isnan(column))


def weakest(
    conditions: Sequence[Condition], loss: Floats, targets: Floats, sought: Rows, *, least_rows: int, most: int
) -> list[Spot]:
    """The parts with the largest excess by the rows `sought`, weighed by the root of their rows.

    `loss` (n,) is what is lost on each row, `targets` (n, k) what a constant would be fitted to. A part is not taken
    when half its rows are in one that was taken before.
    """
    kept = [each for each in conditions if (each.rows & sought).sum() >= least_rows]
    if not kept:
        return []
    matrix = np.column_stack([each.rows[sought] for each in kept]).astype(np.float64)
    rows = matrix.T @ matrix
    with np.errstate(divide="ignore", invalid="ignore"):
        gained = _pairs(matrix, loss[sought]) / rows
        constant = sum(_variance(matrix, target, rows) for target in targets[sought].T)
        score = np.where(rows >= least_rows, (gained - constant) * np.sqrt(rows), -np.inf)
    one_feature = np.array([[a.feature == b.feature and a is not b for a in kept] for b in kept])
    score[one_feature | np.tri(len(kept), k=-1, dtype=bool)] = -np.inf  # no pair twice
    return _apart(kept, score, most)


def excess(loss: Floats, targets: Floats, drawn: Floats) -> Floats:
    """What is lost more than by the rows' own mean, under each row of weights `drawn` (draws, n)."""
    total = drawn.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = (drawn @ targets**2).sum(axis=1) / total
        mean = (drawn @ targets) / total[:, None]
        return np.asarray(drawn @ loss / total - (squares - (mean**2).sum(axis=1)), dtype=np.float64)


def _pairs(matrix: Floats, values: Floats) -> Floats:
    return np.asarray(matrix.T @ (matrix * values[:, None]), dtype=np.float64)


def _variance(matrix: Floats, target: Floats, rows: Floats) -> Floats:
    return np.asarray(_pairs(matrix, target**2) / rows - (_pairs(matrix, target) / rows) ** 2, dtype=np.float64)


def _apart(conditions: Sequence[Condition], score: Floats, most: int) -> list[Spot]:
    taken: list[Spot] = []
    for place in np.argsort(-score, axis=None, kind="stable"):
        first, second = divmod(int(place), len(conditions))
        if len(taken) == most or not np.isfinite(score[first, second]):
            break
        rows = conditions[first].rows & conditions[second].rows
        if all((rows & spot.rows).sum() < rows.sum() / 2 for spot in taken):
            words = [conditions[first].words] + ([conditions[second].words] if first != second else [])
            taken.append(Spot(" and ".join(words), rows))
    return taken
