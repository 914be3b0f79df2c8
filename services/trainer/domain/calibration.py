"""Probabilities that come true as often as they say: Platt's sigmoid on the margin, by classes of scikit-learn alone.

The sigmoids are learned from rows that the model has not seen, and then put over the model fitted on all rows, as
CalibratedClassifierCV(ensemble=False) does with folds; folds in time order would leave the newest model out.
scikit-learn does this for a fitted model only through FrozenEstimator, which has no ONNX converter, so the frozen
model is exchanged for the plain one after the fit. The calibrated classifier stands at the pipeline's end, where
skl2onnx takes margins from it.

Platt: Probabilistic Outputs for Support Vector Machines, 1999.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from services.trainer.domain.pipelines import MODEL
from shared.matrix import Inputs


def calibrated(fitted: Pipeline, refitted: Pipeline, inputs: Inputs, labels: NDArray[np.intp]) -> Pipeline:
    """`refitted` under sigmoids that were learned from `fitted` on rows it has not seen.

    inputs (n, features), labels (n,) of class indices, five of each class at least.
    """
    prepared: Any = fitted[:-1].transform(inputs) if len(fitted) > 1 else inputs
    over = CalibratedClassifierCV(FrozenEstimator(fitted[MODEL]), method="sigmoid").fit(prepared, labels)
    model = refitted[MODEL]
    over.estimator = model
    for each in over.calibrated_classifiers_:
        each.estimator = model
    return Pipeline([*refitted.steps[:-1], (MODEL, over)])
