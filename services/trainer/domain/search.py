"""Which configurations a run tries: the declared estimators in turn, each first as it usually does well."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from schemas.specs import Estimator

Parameters: TypeAlias = Mapping[str, float | int]
_USUAL: Mapping[Estimator, Parameters] = {
    "hist_gradient_boosting": {
        "learning_rate": 0.1,
        "max_iter": 100,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 40,
        "l2_regularization": 1.0,
    },
    "logistic_regression": {"C": 1.0},
    "ridge": {"alpha": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """An estimator and its parameters, by the names that scikit-learn gives them."""

    estimator: Estimator
    parameters: Parameters = field(default_factory=dict)


def configurations(estimators: Sequence[Estimator], trials: int, seed: int) -> list[Configuration]:
    """`trials` configurations; equal for equal arguments, and a longer search begins with a shorter one.

    Bergstra, Bengio: Random Search for Hyper-Parameter Optimization, JMLR 13, 2012.

    >>> [each.estimator for each in configurations(["ridge", "hist_gradient_boosting"], 3, seed=7)]
    ['ridge', 'hist_gradient_boosting', 'ridge']
    """
    found = []
    for trial in range(trials):
        estimator = estimators[trial % len(estimators)]
        drawn = _DRAW[estimator](np.random.default_rng([seed, trial]))
        parameters = drawn if trial >= len(estimators) else _USUAL[estimator]
        found.append(Configuration(estimator=estimator, parameters=parameters))
    return found


def _hist_gradient_boosting(random: np.random.Generator) -> Parameters:
    """Slower learning gets more trees, so that every trial costs about the same."""
    rate = _log_uniform(random, 0.04, 0.2)
    return {
        "learning_rate": rate,
        "max_iter": round(min(200.0, 10 / rate)),
        "max_leaf_nodes": int(random.choice([7, 15, 31])),
        "min_samples_leaf": int(random.choice([20, 50, 100, 200])),
        "l2_regularization": _log_uniform(random, 0.01, 30.0),
    }


def _logistic_regression(random: np.random.Generator) -> Parameters:
    return {"C": _log_uniform(random, 0.003, 3.0)}


def _ridge(random: np.random.Generator) -> Parameters:
    return {"alpha": _log_uniform(random, 0.01, 1000.0)}


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """Three significant digits say as much as sixteen, and read better in a manifest."""
    return float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.3g}")


_DRAW: Mapping[Estimator, Callable[[np.random.Generator], Parameters]] = {
    "hist_gradient_boosting": _hist_gradient_boosting,
    "logistic_regression": _logistic_regression,
    "ridge": _ridge,
}
