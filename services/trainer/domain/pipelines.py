"""Configurations as scikit-learn pipelines on a version's inputs, float32 (n, features), NaN for missing or unseen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from schemas.events.parts import Signature, SignatureFeature
from services.trainer.domain.search import Configuration

MODEL = "model"  # the last step's name; the steps before it prepare
_NO_CODE = -1.0


def pipeline_of(configuration: Configuration, signature: Signature, present: Sequence[int], seed: int) -> Pipeline:
    """An unfitted pipeline on the columns `present`; a signature without classes asks for a regressor.

    A column without a single value is left out: there is nothing to learn, and the trees' binning fails on it.
    """
    parameters = dict(configuration.parameters)
    if configuration.estimator == "hist_gradient_boosting":
        kind = HistGradientBoostingClassifier if signature.classes else HistGradientBoostingRegressor
        # codes go in as numbers: ONNX's tree ensembles know no categorical splits
        model = kind(**parameters, early_stopping=False, categorical_features=None, random_state=seed)
        chosen = [] if len(present) == len(signature.features) else [("prepare", _chosen(present))]
        return Pipeline([*chosen, (MODEL, model)])
    if configuration.estimator == "logistic_regression":
        linear: Any = LogisticRegression(**parameters, max_iter=500, tol=1e-3)
    else:
        linear = Ridge(**parameters)
    return Pipeline([("prepare", _prepare(signature, present)), (MODEL, linear)])


def floor_thresholds(model: Any) -> None:
    """Round the thresholds of a fitted tree ensemble down to float32, in place; other models stay as they are.

    On float32 inputs every answer stays the same, as x ≤ t means x ≤ the largest float32 up to t. ONNX holds float32:
    rounded to the nearest, a threshold between two neighbours may become the upper one, and its rows change sides.
    """
    for tree in (tree for stage in getattr(model, "_predictors", ()) for tree in stage):
        exact = tree.nodes["num_threshold"]
        nearest = exact.astype(np.float32)
        tree.nodes["num_threshold"] = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _chosen(present: Sequence[int]) -> ColumnTransformer:
    return ColumnTransformer([("present", "passthrough", list(present))])


def _prepare(signature: Signature, present: Sequence[int]) -> ColumnTransformer:
    """Numbers imputed and scaled; each category's declared values as columns of their own, missing as none of them."""
    columns = [(column, signature.features[column]) for column in present]
    numbers = [column for column, feature in columns if feature.type != "category"]
    categories = [(column, feature) for column, feature in columns if feature.type == "category"]
    # clipped to what training saw: a column that hardly moved then must not explode when it moves
    scaled = Pipeline(
        [("impute", SimpleImputer(strategy="median")), ("clip", MinMaxScaler(clip=True)), ("scale", StandardScaler())]
    )
    parts = [("numbers", scaled, numbers)] if numbers else []
    return ColumnTransformer(parts + [(feature.name, _one_hot(feature), [column]) for column, feature in categories])


def _one_hot(feature: SignatureFeature) -> Pipeline:
    codes = np.arange(len(feature.values), dtype=np.float32)
    return Pipeline(
        [
            ("impute", SimpleImputer(strategy="constant", fill_value=_NO_CODE)),
            ("encode", OneHotEncoder(categories=[codes], handle_unknown="ignore")),
        ]
    )
