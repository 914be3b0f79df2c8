"""shared.quality against scikit-learn, and where a metric is not defined."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from shared.quality import HIGHER_IS_BETTER, calibration_error, main_metric, metrics

RANDOM = np.random.default_rng(3)


def test_binary_metrics_agree_with_scikit_learn() -> None:
    truth = RANDOM.integers(0, 2, 500)
    probability = np.round(np.clip(0.3 * truth + 0.7 * RANDOM.random(500), 0, 1), 2)  # rounded: many ties

    found = metrics("binary", truth, probability)

    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, probability))
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, probability >= 0.5))
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, probability >= 0.5))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(truth, np.clip(probability, 1e-15, 1 - 1e-15)))
    assert found["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(truth, probability))


def test_both_columns_of_binary_probabilities_give_the_same_metrics_as_one() -> None:
    truth, probability = RANDOM.integers(0, 2, 100), RANDOM.random(100)

    both = metrics("binary", truth, np.column_stack([1 - probability, probability]))

    assert both == metrics("binary", truth.astype(bool), probability)


def test_multiclass_metrics_agree_with_scikit_learn() -> None:
    truth = RANDOM.integers(0, 4, 600)
    logits = RANDOM.normal(size=(600, 4)) + np.eye(4)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    found = metrics("multiclass", truth, probabilities)

    area = sklearn_metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
    assert found["roc_auc"] == pytest.approx(area)
    assert found["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, probabilities.argmax(axis=1), average="macro"))
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(truth, probabilities))
    assert 0 < found["brier"] < 1


def test_regression_metrics_agree_with_scikit_learn() -> None:
    truth = RANDOM.normal(size=200)
    values = truth + RANDOM.normal(size=200)

    found = metrics("regression", truth, values[:, None])

    assert found["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(truth, values))
    assert found["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(truth, values))
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(truth, values))


def test_one_class_only_leaves_roc_auc_out_and_keeps_the_rest_finite() -> None:
    found = metrics("binary", [False, False], [0.2, 0.0])

    assert "roc_auc" not in found
    assert found["accuracy"] == 1.0
    assert all(np.isfinite(value) for value in found.values())


def test_a_class_that_does_not_occur_leaves_the_macro_mean_to_the_others() -> None:
    probabilities = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1]]

    assert metrics("multiclass", [0, 1, 0], probabilities)["roc_auc"] == 1.0


def test_no_rows_have_no_metrics_and_no_calibration_error() -> None:
    assert metrics("binary", [], []) == {}
    assert metrics("regression", [], []) == {}
    assert calibration_error([], []) == 0.0


def test_values_without_spread_have_no_r2() -> None:
    assert metrics("regression", [2.0, 2.0], [1.0, 3.0]) == {"mae": 1.0, "rmse": 1.0}


def test_a_certain_and_wrong_answer_costs_a_finite_log_loss() -> None:
    assert metrics("binary", [1, 0], [0.0, 0.5])["log_loss"] == pytest.approx((34.5388 + 0.6931) / 2, rel=1e-4)


def test_probabilities_that_come_true_as_often_as_they_say_have_a_small_calibration_error() -> None:
    probability = RANDOM.random(100_000)
    truth = RANDOM.random(100_000) < probability

    assert calibration_error(truth, probability) < 0.01
    assert calibration_error(truth, probability**3) > 0.1


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_main_metric_of_every_task_has_one_direction(task: str) -> None:
    name, higher = main_metric(task)  # type: ignore[arg-type]  # the parametrised names are the tasks

    assert HIGHER_IS_BETTER[name] is higher


def test_a_weight_counts_a_row_so_many_times() -> None:
    truth, weights = RANDOM.integers(0, 3, 300), RANDOM.integers(0, 4, 300)
    probabilities = RANDOM.dirichlet(np.ones(3), 300)
    score, values = np.round(RANDOM.random(300), 2), RANDOM.normal(size=300)

    for task, labels, answers in (
        ("multiclass", truth, probabilities), ("binary", truth == 1, score), ("regression", truth, values)
    ):  # fmt: skip
        weighted = metrics(task, labels, answers, weights.astype(np.float64))  # type: ignore[arg-type]
        repeated = metrics(task, np.repeat(labels, weights), np.repeat(answers, weights, axis=0))  # type: ignore[arg-type]

        assert weighted == pytest.approx(repeated)
