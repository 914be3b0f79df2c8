"""Configurations as scikit-learn pipelines on a version's inputs, float32 (n, features), NaN for missing or unseen."""

from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from schemas.events.parts import Signature, SignatureFeature
from services.trainer.domain.search import Configuration

MODEL = "model"  # the last step's name; the steps before it prepare
_NO_CODE = -1.0


def pipeline_of(configuration: Configuration, signature: Signature, seed: int) -> Pipeline:
    """An unfitted pipeline; a signature without classes asks for a regressor."""
    parameters = dict(configuration.parameters)
    if configuration.estimator == "hist_gradient_boosting":
        kind = HistGradientBoostingClassifier if signature.classes else HistGradientBoostingRegressor
        # codes go in as numbers: ONNX's tree ensembles know no categorical splits
        model = kind(**parameters, early_stopping=False, categorical_features=None, random_state=seed)
        return Pipeline([(MODEL, model)])
    if configuration.estimator == "logistic_regression":
        linear: Any = LogisticRegression(**parameters, max_iter=500, tol=1e-3)
    else:
        linear = Ridge(**parameters)
    return Pipeline([("prepare", _prepare(signature)), (MODEL, linear)])


def _prepare(signature: Signature) -> ColumnTransformer:
    """Numbers imputed and scaled; each category's declared values as columns of their own, missing as none of them."""
    columns = list(enumerate(signature.features))
    numbers = [column for column, feature in columns if feature.type != "category"]
    categories = [(column, feature) for column, feature in columns if feature.type == "category"]
    scaled = Pipeline(
        [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]
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
