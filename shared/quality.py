"""How good predictions are: the same numbers in training, at the gates and in monitoring.

Pure functions of arrays in row order. A metric that the rows do not define (one class only, no spread) is left out.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "regression"]
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


def metrics(task: Task, truth: Any, probabilities_or_values: Any) -> dict[str, float]:
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
    """
    answers = np.asarray(probabilities_or_values, dtype=np.float64)
    if len(answers) == 0:
        return {}
    if task == "regression":
        return _regression(np.asarray(truth, dtype=np.float64), answers.reshape(len(answers)))
    codes = np.asarray(truth).astype(np.intp)
    return _classification(codes, np.column_stack([1 - answers, answers]) if answers.ndim == 1 else answers)


def calibration_error(truth: Any, probability: Any) -> float:
    """Expected calibration error over 10 bins of equal width: mean |share of hits - mean probability|, by rows.

    `truth` (n,) of 0/1 hits, `probability` (n,) that was given to them; 0.0 without rows.
    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    >>> round(calibration_error([0, 1, 1, 1], [0.7, 0.7, 0.7, 0.7]), 6)
    0.05
    """
    hits, given = np.asarray(truth, dtype=np.float64), np.asarray(probability, dtype=np.float64)
    bins = np.clip((given * _BINS).astype(np.intp), 0, _BINS - 1)
    gaps = np.bincount(bins, weights=hits - given, minlength=_BINS)
    return float(np.abs(gaps).sum() / max(len(given), 1))


def roc_auc(truth: Any, score: Any) -> float | None:
    """Area under the ROC curve by rank sums, ties counted half; None with one class only.

    Hanley, McNeil: The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    positive = np.asarray(truth).astype(bool)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, places, counts = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]  # from 1; ties share their mean
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _classification(codes: NDArray[np.intp], probabilities: Floats) -> dict[str, float]:
    rows, classes = probabilities.shape
    answered = (probabilities[:, 1] >= 0.5).astype(np.intp) if classes == 2 else probabilities.argmax(axis=1)
    of_truth = np.clip(probabilities[np.arange(rows), codes], _LEAST_PROBABILITY, 1.0)
    missed = probabilities - np.eye(classes)[codes]
    hits, given = (codes, probabilities[:, 1]) if classes == 2 else (codes == answered, probabilities.max(axis=1))
    found = {
        "roc_auc": _mean_auc(codes, probabilities),
        "accuracy": float((answered == codes).mean()),
        "f1": _f1(codes, answered, classes),
        "log_loss": float(-np.log(of_truth).mean()),
        "brier": float((missed**2).sum(axis=1).mean() / 2),
        "calibration_error": calibration_error(hits, given),
    }
    return {name: value for name, value in found.items() if value is not None}


def _mean_auc(codes: NDArray[np.intp], probabilities: Floats) -> float | None:
    classes = probabilities.shape[1]
    if classes == 2:
        return roc_auc(codes == 1, probabilities[:, 1])
    areas = [roc_auc(codes == each, probabilities[:, each]) for each in range(classes)]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if defined else None


def _f1(codes: NDArray[np.intp], answered: NDArray[np.intp], classes: int) -> float | None:
    """Of the class true, or the macro mean over the classes that occur; None when none does."""
    of_interest = [1] if classes == 2 else range(classes)
    scores = []
    for each in of_interest:
        occurs = int((codes == each).sum() + (answered == each).sum())
        if occurs:
            scores.append(2 * int(((codes == each) & (answered == each)).sum()) / occurs)
    return float(np.mean(scores)) if scores else None


def _regression(truth: Floats, values: Floats) -> dict[str, float]:
    missed = truth - values
    found = {"mae": float(np.abs(missed).mean()), "rmse": float(np.sqrt((missed**2).mean()))}
    spread = float(((truth - truth.mean()) ** 2).sum())
    return found | {"r2": 1 - float((missed**2).sum()) / spread} if spread > 0 else found
