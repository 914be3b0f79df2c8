"""What the monitor needs to estimate a version's quality while labels are missing, learned from the test rows.

`calibration`: what a probability in each cell means, where the test rows show that it is not what it says; the isotonic
fit is kept only if it helps on later rows than it was learned from (NannyML, confidence-based estimation).
`loss`: a nanny model of the loss of a single row (NannyML, direct loss estimation): absolute and squared error of a
number, Brier score of classes. It is additive over the frozen bins of the features, and for a number of the prediction
too, so that a window's counts are all it takes; what two features do only together it does not see. Of a class only
the features are asked, because its loss says how much of a change each of them brings about.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.isotonic import IsotonicRegression

from services.trainer.domain.learning import one_thread
from shared.expectation import cells_of, centres
from shared.quality import calibration_error
from shared.reference import codes_of, whole_of

Floats = NDArray[np.float64]
_DIGITS = 6  # what is written down of a number


def calibration_of(labels: NDArray[np.intp], probabilities: Floats) -> list[list[float]]:
    """For probabilities (n, columns) in time order: what each cell of each column means, (columns, CELLS)."""
    columns = probabilities.shape[1]
    truths = [labels == (1 if columns == 1 else column) for column in range(columns)]
    return [_means(truth, probabilities[:, column]) for column, truth in enumerate(truths)]


def _means(truth: NDArray[np.bool_], probability: Floats) -> list[float]:
    half, plain = len(truth) // 2, centres()
    fitted = _isotonic(truth[:half], probability[:half]).predict(probability[half:])
    if calibration_error(truth[half:], fitted) < calibration_error(truth[half:], probability[half:]):
        plain = _isotonic(truth, probability).predict(plain)
    return [round(float(each), _DIGITS) for each in plain]


def _isotonic(truth: NDArray[np.bool_], probability: Floats) -> IsotonicRegression:
    """Of the cells' centres, as windows will be counted."""
    given = centres()[cells_of(probability)]
    return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(given, truth.astype(np.float64))


def losses(task: str, labels: NDArray[Any], outputs: Floats) -> dict[str, Floats]:
    """By name, of each row: labels (n,) and outputs (n, columns)."""
    if task == "regression":
        missed = outputs[:, 0] - labels
        return {"absolute": np.abs(missed), "squared": missed**2}
    probabilities = np.column_stack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    missed = probabilities - np.eye(probabilities.shape[1])[labels.astype(np.intp)]
    return {"brier": (missed**2).sum(axis=1) / 2}


def additive(loss: Floats, parts: Mapping[str, Mapping[str, Any]], columns: Sequence[Floats]) -> dict[str, Any]:
    """A model of `loss` (n,): `base`, its standard deviation, and what each bin of each part adds to the base.

    `columns` are the values (n,) of `parts`; tables are as long as the part's counts, missing last.
    """
    codes = np.column_stack(
        [codes_of(dict(part), column) for part, column in zip(parts.values(), columns, strict=True)]
    )
    model = HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, interaction_cst="no_interactions", random_state=0,
    )  # fmt: skip
    with one_thread():
        return _told(model.fit(codes, loss), codes, loss, parts)


def _told(
    model: HistGradientBoostingRegressor, codes: NDArray[np.intp], loss: Floats, parts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    nothing = float(model.predict(np.zeros((1, codes.shape[1])))[0])
    tables = {
        name: _table(model, column, len(whole_of(dict(part))), nothing)
        for column, (name, part) in enumerate(parts.items())
    }
    added = sum(table[codes[:, column]] for column, table in enumerate(tables.values()))
    return {
        "base": float(loss.mean() - np.mean(added)),
        "std": float(loss.std()),
        "tables": {name: table.tolist() for name, table in tables.items()},
    }


def _table(model: HistGradientBoostingRegressor, column: int, bins: int, nothing: float) -> Floats:
    """What the bins of one column add; without interactions it does not depend on the others."""
    probe = np.zeros((bins, model.n_features_in_))
    probe[:, column] = np.arange(bins)
    return np.asarray(model.predict(probe)) - nothing
