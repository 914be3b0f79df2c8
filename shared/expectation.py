"""What the quality of predictions must be if probabilities mean what they say: confidence-based estimation (CBPE).

NannyML, https://nannyml.readthedocs.io, "Confidence-based Performance Estimation". Probabilities are counted in cells
of equal width on the logit scale, so that an estimate is a function of integers: the same in any order, at any
parallelism. What the estimate cannot see: a change of what leads from inputs to labels (concept drift); it holds for
inputs that moved into regions where the version's probabilities are still right.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.specs import Task

CELLS = 401
_WIDTH = 0.05  # of a cell, on the logit scale; the outermost hold everything beyond 1 : 22,000
Cells = NDArray[np.int64]
Floats = NDArray[np.float64]


def centres() -> Floats:
    """The probability (CELLS,) that stands for each cell."""
    return np.asarray(1 / (1 + np.exp(-(np.arange(CELLS) - CELLS // 2) * _WIDTH)))


def cells_of(probabilities: Any) -> NDArray[np.intp]:
    """The cell of each probability.

    >>> cells_of([0.0, 0.5, 1.0]).tolist()
    [0, 200, 400]
    """
    given = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-12, 1 - 1e-12)
    places = np.rint(np.log(given / (1 - given)) / _WIDTH).astype(np.intp) + CELLS // 2
    return np.clip(places, 0, CELLS - 1)


def count(outputs: Floats) -> Cells:
    """Predictions (n, 1) of p(true), or (n, classes), as counts (columns, answered or not, CELLS); (n, 0) has none."""
    columns = outputs.shape[1]
    answered = outputs >= 0.5 if columns <= 1 else np.eye(columns, dtype=bool)[outputs.argmax(axis=1)]
    found = np.zeros((columns, 2, CELLS), dtype=np.int64)
    for column in range(columns):
        np.add.at(found[column], (answered[:, column].astype(np.intp), cells_of(outputs[:, column])), 1)
    return found


def expected(task: Task, cells: Cells, calibrated: Floats) -> dict[str, float]:
    """Metrics of counts as `count` makes them; `calibrated` (columns, CELLS) is the probability that each cell means.

    Those of shared/quality.py that follow from probabilities; of one column, those of the class true.

    >>> sure = count(np.array([[0.1], [0.1], [0.9], [0.9]]))
    >>> {name: round(value, 2) for name, value in expected("binary", sure, centres()[None]).items()}
    {'roc_auc': 0.9, 'accuracy': 0.9, 'f1': 0.9, 'log_loss': 0.32, 'brier': 0.09}
    """
    rows = int(cells[0].sum())
    if task == "regression" or not rows:
        return {}
    hits, misses = cells * calibrated[:, None], cells * (1 - calibrated[:, None])
    true_positives, false_positives = hits[:, 1].sum(axis=1), misses[:, 1].sum(axis=1)
    false_negatives = hits[:, 0].sum(axis=1)
    said = centres()
    squares = (hits * (1 - said) ** 2 + misses * said**2).sum() / rows
    certain = -(hits * np.log(said)).sum() / rows
    if len(cells) == 1:
        right = true_positives.sum() + misses[0, 0].sum()
        certain -= (misses * np.log(1 - said)).sum() / rows
    else:
        right, squares = true_positives.sum(), squares / 2
    areas = [_area(hits[column].sum(axis=0), misses[column].sum(axis=0)) for column in range(len(cells))]
    occurring = 2 * true_positives + false_positives + false_negatives
    f1 = 2 * true_positives[occurring > 0] / occurring[occurring > 0]
    return {
        "roc_auc": float(np.mean(areas)),
        "accuracy": float(right / rows),
        "f1": float(f1.mean()),
        "log_loss": float(certain),
        "brier": float(squares),
    }


def confusion(cells: Cells, calibrated: Floats, threshold: float = 0.5) -> tuple[float, float]:
    """Expected false positives and false negatives of the class true, answered from `threshold` on."""
    rows, said = cells[0].sum(axis=0), centres() >= threshold - 1e-9
    return float((rows * said * (1 - calibrated[0])).sum()), float((rows * ~said * calibrated[0]).sum())


def _area(positives: Floats, negatives: Floats) -> float:
    """Of the ROC curve, by cells in rising order; ties are half."""
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / max(1e-12, positives.sum() * negatives.sum()))
