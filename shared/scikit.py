"""Scikit-learn pipelines as skops files: never pickle, and nothing is loaded that does not stand in this list.

The bytes of equal pipelines differ (zip, ids); their digest says which file, not which model.
"""

from typing import Any, Final

import skops.io

TRUSTED: Final = (  # beyond what skops itself trusts
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


def dumps(pipeline: Any) -> bytes:
    """The pipeline as a skops file."""
    data: bytes = skops.io.dumps(pipeline)
    return data


def loads(data: bytes) -> Any:
    """The pipeline of a skops file.

    Raises:
        skops.io.exceptions.UntrustedTypesFoundException: it holds a type that is neither skops' own nor listed here.
    """
    return skops.io.loads(data, trusted=list(TRUSTED))
