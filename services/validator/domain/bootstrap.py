"""Confidence by the bootstrap: every metric over many weightings of the same rows at once.

A resample of n rows is a vector of weights, how often each row was drawn; so a metric of all resamples is a few matrix
products, and two models are compared on the same resamples. Efron, Tibshirani: An Introduction to the Bootstrap, 1993.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Task
from shared.quality import Floats

_MOST_DRAWS, _FEWEST_DRAWS = 500, 100
_MOST_CELLS = 10_000_000
_BINS = 10  # of shared.quality.calibration_error
_LEAST_PROBABILITY = 1e-15
Codes = NDArray[np.intp]


def weights(rows: int, seed: int) -> Floats:
    """Weights (draws, rows) of resamples with replacement; 500 draws, fewer for many rows.

    >>> drawn = weights(40, seed=7)
    >>> drawn.shape, bool((drawn.sum(axis=1) == 40).all())
    ((500, 40), True)
    """
    draws = int(np.clip(_MOST_CELLS // max(rows, 1), _FEWEST_DRAWS, _MOST_DRAWS))
    chosen = np.random.default_rng(seed).integers(0, max(rows, 1), size=(draws, rows))
    chosen += np.arange(draws)[:, None] * rows
    return np.bincount(chosen.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float64)


def replicates(metric: str, task: Task, truth: Floats, answers: Floats, drawn: Floats) -> Floats:
    """A metric of shared.quality under each row of weights `drawn` (draws, n); NaN where it is not defined."""
    if task == "regression":
        return _REGRESSION[metric](truth, answers, drawn)
    return _CLASSIFICATION[metric](truth.astype(np.intp), answers, drawn)


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The central percentile interval of the defined replicates; NaN when there are none.

    >>> interval(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def _mean(values: Floats, drawn: Floats) -> Floats:
    return _ratio(drawn @ values, drawn.sum(axis=1))


def _mean_of_defined(columns: list[Floats]) -> Floats:
    stacked = np.column_stack(columns)
    defined = np.isfinite(stacked)
    return _ratio(np.where(defined, stacked, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def _auc(positive: NDArray[np.bool_], score: Floats, drawn: Floats) -> Floats:
    """Σ over positives of the weight of negatives below, ties counted half."""
    if not len(score):
        return np.full(len(drawn), np.nan)
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    ordered, is_positive = drawn[:, order], positive[order]
    positives = np.add.reduceat(ordered * is_positive, ties, axis=1)
    negatives = np.add.reduceat(ordered * ~is_positive, ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def _roc_auc(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    classes = probabilities.shape[1]
    of_interest = [1] if classes == 2 else range(classes)
    return _mean_of_defined([_auc(codes == each, probabilities[:, each], drawn) for each in of_interest])


def answered(probabilities: Floats, threshold: float = 0.5) -> Codes:
    """The class that is answered, (n,): true from the threshold on, or the most probable."""
    if probabilities.shape[1] == 2:
        return np.asarray(probabilities[:, 1] >= threshold, dtype=np.intp)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.intp)


def _accuracy(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    return _mean((answered(probabilities) == codes).astype(np.float64), drawn)


def _f1(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    classes, said = probabilities.shape[1], answered(probabilities)
    scores = []
    for each in [1] if classes == 2 else range(classes):
        both = ((codes == each) & (said == each)).astype(np.float64)
        either = (codes == each).astype(np.float64) + (said == each)
        scores.append(_ratio(2 * (drawn @ both), drawn @ either))
    return _mean_of_defined(scores)


def _log_loss(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    of_truth = np.clip(probabilities[np.arange(len(codes)), codes], _LEAST_PROBABILITY, 1.0)
    return _mean(-np.log(of_truth), drawn)


def _brier(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    missed = probabilities - np.eye(probabilities.shape[1])[codes]
    return _mean((missed**2).sum(axis=1) / 2, drawn)


def _calibration_error(codes: Codes, probabilities: Floats, drawn: Floats) -> Floats:
    two = probabilities.shape[1] == 2
    hits = codes if two else codes == answered(probabilities)
    given = probabilities[:, 1] if two else probabilities.max(axis=1)
    bins = np.clip((given * _BINS).astype(np.intp), 0, _BINS - 1)
    gaps = np.zeros((len(codes), _BINS))
    gaps[np.arange(len(codes)), bins] = hits - given
    return _ratio(np.abs(drawn @ gaps).sum(axis=1), drawn.sum(axis=1))


def _mae(truth: Floats, values: Floats, drawn: Floats) -> Floats:
    return _mean(np.abs(truth - values), drawn)


def _rmse(truth: Floats, values: Floats, drawn: Floats) -> Floats:
    return np.sqrt(_mean((truth - values) ** 2, drawn))


def _r2(truth: Floats, values: Floats, drawn: Floats) -> Floats:
    centred = truth - truth.mean()
    spread = _mean(centred**2, drawn) - _mean(centred, drawn) ** 2
    return 1 - _ratio(_mean((truth - values) ** 2, drawn), np.where(spread > 0, spread, 0.0))


_CLASSIFICATION: dict[str, Callable[[Codes, Floats, Floats], Floats]] = {
    "roc_auc": _roc_auc,
    "accuracy": _accuracy,
    "f1": _f1,
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_error": _calibration_error,
}
_REGRESSION: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {"mae": _mae, "rmse": _rmse, "r2": _r2}
METRICS_OF: dict[Task, tuple[str, ...]] = {
    "binary": tuple(_CLASSIFICATION),
    "multiclass": tuple(_CLASSIFICATION),
    "regression": tuple(_REGRESSION),
}
