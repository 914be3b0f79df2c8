"""How good predictions are: the same numbers in training, at the gates and in monitoring.

Pure functions of arrays in row order. A metric that the rows do not define (one class only, no spread) is left out.
With weights (n,) each row counts so many times: by the inverse of the probability with which its label is seen, labels
that were chosen by lot speak for all (Horvitz, Thompson, JASA 47, 1952).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Task

Floats = NDArray[np.float64]
_LEAST_PROBABILITY = 1e-15  # a certain and wrong answer costs 34.5 nats, not infinity
_BINS = 10
_MAIN = {"binary": ("roc_auc", True), "multiclass": ("roc_auc", True), "regression": ("rmse", False)}
HIGHER_IS_BETTER = {
    "roc_auc": True, "accuracy": True, "f1": True, "r2": True,
    "log_loss": False, "brier": False, "calibration_error": False, "mae": False, "rmse": False,
}  # fmt: skip


def main_metric(task: Task) -> tuple[str, bool]:
    """The metric by which a task's models are compared, and whether higher is better.

    >>> main_metric("binary"), main_metric("regression")
    (('roc_auc', True), ('rmse', False))
    """
    return _MAIN[task]


def metrics(task: Task, truth: Any, probabilities_or_values: Any, weights: Floats | None = None) -> dict[str, float]:
    """All metrics of a task that these n rows define.

    binary: `truth` (n,) of 0/1 or bool; probabilities of true (n,), or of both classes (n, 2).
    multiclass: `truth` (n,) of class indices; probabilities (n, classes). roc_auc is the macro mean of one-vs-rest over
    the classes with both outcomes, f1 the macro mean over the classes that occur, brier half the squared distance
    (0 best, 1 worst, as for two classes).
    regression: `truth` and values (n,).

    >>> metrics("binary", [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])["roc_auc"]
    0.75
    >>> "roc_auc" in metrics("binary", [1, 1], [0.6, 0.7])
    False
    >>> metrics("binary", [0, 1, 1], [0.1, 0.4, 0.8], np.array([1.0, 1.0, 2.0]))["accuracy"]
    0.75
    """
    answers = np.asarray(probabilities_or_values, dtype=np.float64)
    if len(answers) == 0:
        return {}
    if task == "regression":
        return _regression(np.asarray(truth, dtype=np.float64), answers.reshape(len(answers)), weights)
    codes = np.asarray(truth).astype(np.intp)
    return _classification(codes, np.column_stack([1 - answers, answers]) if answers.ndim == 1 else answers, weights)


def calibration_error(truth: Any, probability: Any, weights: Floats | None = None) -> float:
    """Expected calibration error over 10 bins of equal width: mean |share of hits - mean probability|, by rows.

    `truth` (n,) of 0/1 hits, `probability` (n,) that was given to them; 0.0 without rows.
    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    >>> round(calibration_error([0, 1, 1, 1], [0.7, 0.7, 0.7, 0.7]), 6)
    0.05
    """
    hits, given = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    bins = np.clip((given * _BINS).astype(np.intp), 0, _BINS - 1)
    missed, rows = (hits - given, len(given)) if weights is None else ((hits - given) * weights, float(weights.sum()))
    return float(np.abs(np.bincount(bins, weights=missed, minlength=_BINS)).sum() / max(rows, 1))


def roc_auc(truth: Any, score: Any, weights: Floats | None = None) -> float | None:
    """Area under the ROC curve by rank sums, ties counted half; None with one class only.

    Hanley, McNeil: The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    positive = np.asarray(truth).astype(bool)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, places, counts = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True, return_counts=True)
    if weights is not None:
        return _weighted_auc(places, positive, weights)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]  # from 1; ties share their mean
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _weighted_auc(places: NDArray[np.intp], positive: NDArray[np.bool_], weights: Floats) -> float:
    above, below = np.bincount(places, weights * positive), np.bincount(places, weights * ~positive)
    return float((above * (below.cumsum() - below / 2)).sum() / (above.sum() * below.sum()))


def _mean(values: Any, weights: Floats | None) -> float:
    return float(np.mean(values) if weights is None else np.average(values, weights=weights))


def _classification(codes: NDArray[np.intp], probabilities: Floats, weights: Floats | None) -> dict[str, float]:
    rows, classes = probabilities.shape
    answered = (probabilities[:, 1] >= 0.5).astype(np.intp) if classes == 2 else probabilities.argmax(axis=1)
    of_truth = np.clip(probabilities[np.arange(rows), codes], _LEAST_PROBABILITY, 1.0)
    missed = probabilities - np.eye(classes)[codes]
    hits, given = (codes, probabilities[:, 1]) if classes == 2 else (codes == answered, probabilities.max(axis=1))
    found = {
        "roc_auc": _mean_auc(codes, probabilities, weights),
        "accuracy": _mean(answered == codes, weights),
        "f1": _f1(codes, answered, classes, weights),
        "log_loss": -_mean(np.log(of_truth), weights),
        "brier": _mean((missed**2).sum(axis=1), weights) / 2,
        "calibration_error": calibration_error(hits, given, weights),
    }
    return {name: value for name, value in found.items() if value is not None}


def _mean_auc(codes: NDArray[np.intp], probabilities: Floats, weights: Floats | None) -> float | None:
    classes = probabilities.shape[1]
    if classes == 2:
        return roc_auc(codes == 1, probabilities[:, 1], weights)
    areas = [roc_auc(codes == each, probabilities[:, each], weights) for each in range(classes)]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined else None


def _f1(codes: NDArray[np.intp], answered: NDArray[np.intp], classes: int, weights: Floats | None) -> float | None:
    """Of the class true, or the macro mean over the classes that occur; None when none does."""
    of_interest, counts = [1] if classes == 2 else range(classes), np.ones(len(codes)) if weights is None else weights
    scores = []
    for each in of_interest:
        occurs = float(counts[codes == each].sum() + counts[answered == each].sum())
        if occurs:
            scores.append(2 * float(counts[(codes == each) & (answered == each)].sum()) / occurs)
    return float(np.mean(scores)) if scores else None


def _regression(truth: Floats, values: Floats, weights: Floats | None) -> dict[str, float]:
    missed = truth - values
    found = {"mae": _mean(np.abs(missed), weights), "rmse": float(np.sqrt(_mean(missed**2, weights)))}
    squares = (truth - _mean(truth, weights)) ** 2, missed**2
    spread, error = (float(each.sum() if weights is None else (each * weights).sum()) for each in squares)
    return found | {"r2": 1 - error / spread} if spread > 0 else found
