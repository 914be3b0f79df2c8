"""A model, its reference, and a world whose inputs move (covariate shift) or mean something else (concept drift)."""

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from schemas.events.monitor import Estimated
from schemas.specs import FloatFeature, Task
from services.monitor.domain.bins import Bins
from services.monitor.domain.estimate import Expectation
from services.trainer.domain.expectations import additive, calibration_of, losses
from shared.expectation import count
from shared.reference import binned, feature_reference

Rows = NDArray[np.float64]
NAMES = [f"x{index}" for index in range(4)]
NUMBER = FloatFeature(type="float")
_MODELS: dict[Task, Any] = {
    "binary": LogisticRegression,
    "multiclass": partial(HistGradientBoostingClassifier, max_iter=40, random_state=0),
    "regression": partial(HistGradientBoostingRegressor, random_state=0),
}
SHIFTS = {"none": (0.0, 1.0), "up": (0.7, 1.0), "down": (-0.7, 1.0), "narrow": (0.0, 0.5), "both": (1.0, 0.7)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A served model; `outputs` (n, columns) of it, and what its reference expects."""

    task: Task
    model: Any
    bins: Bins
    expectation: Expectation

    def outputs(self, inputs: Rows) -> Rows:
        if self.task == "regression":
            return np.asarray(self.model.predict(inputs))[:, None]
        probabilities: Rows = self.model.predict_proba(inputs)
        return probabilities[:, 1:] if self.task == "binary" else probabilities

    def estimate(self, inputs: Rows) -> Estimated:
        outputs = self.outputs(inputs)
        cells = count(outputs[:, :0] if self.task == "regression" else outputs)
        found = self.expectation.estimate(self.task, self.bins, self.counts(inputs, outputs), cells, None)
        assert found is not None
        return found

    def counts(self, inputs: Rows, outputs: Rows) -> NDArray[np.int64]:
        score = outputs[:, 0] if outputs.shape[1] == 1 else outputs.max(axis=1)
        return self.bins.count(inputs.astype(np.float32), score)


def inputs_of(rng: np.random.Generator, rows: int, shift: float = 0.0, spread: float = 1.0) -> Rows:
    """The first feature moves."""
    inputs = rng.normal(size=(rows, 4))
    inputs[:, 0] = inputs[:, 0] * spread + shift
    return inputs


def labels_of(task: Task, rng: np.random.Generator, inputs: Rows, *, turned: bool = False) -> NDArray[Any]:
    """`turned`: the first feature means the opposite."""
    first = -inputs[:, 0] if turned else inputs[:, 0]
    if task == "regression":
        noise = rng.normal(size=len(inputs)) * (0.5 + 0.8 * np.maximum(inputs[:, 0], 0))
        return np.asarray(3 * first + 2 * np.sin(2 * inputs[:, 1]) + noise)
    margins = 1.4 * first - 0.8 * inputs[:, 1] + 0.5 * inputs[:, 2] ** 2 - 0.5
    if task == "binary":
        return np.asarray(rng.random(len(inputs)) < 1 / (1 + np.exp(-margins))).astype(np.intp)
    noise = rng.gumbel(size=(len(inputs), 3))
    return np.asarray((noise + np.column_stack([margins, -margins, inputs[:, 3]])).argmax(axis=1))


@cache
def case(task: Task, seed: int, rows: int = 20_000) -> Case:
    """Trained on four fifths; the reference is of all rows, what it expects of the last fifth."""
    rng = np.random.default_rng(seed)
    inputs = inputs_of(rng, rows)
    labels, cut = labels_of(task, rng, inputs), rows * 4 // 5
    with threadpool_limits(limits=1):
        model = _MODELS[task]().fit(inputs[:cut], labels[:cut])
    held = Case(task=task, model=model, bins=None, expectation=Expectation())  # type: ignore[arg-type]  # its outputs
    outputs, test = held.outputs(inputs[cut:]), inputs[cut:]
    parts = {name: feature_reference(NUMBER, column) for name, column in zip(NAMES, inputs.T, strict=True)}
    score = binned(outputs[:, 0] if outputs.shape[1] == 1 else outputs.max(axis=1))
    asked = parts | ({"score": score} if task == "regression" else {})
    columns = [*test.T, *([outputs[:, 0]] if task == "regression" else [])]
    expected = {
        "calibration": [] if task == "regression" else calibration_of(labels[cut:], outputs),
        "losses": {n: additive(loss, asked, columns) for n, loss in losses(task, labels[cut:], outputs).items()},
    }
    document = {"features": parts, "score": score, "expected": expected}
    bins = Bins.of(document, NAMES)
    return Case(task=task, model=model, bins=bins, expectation=Expectation.of(document, bins))
