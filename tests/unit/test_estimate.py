"""Quality estimated without labels: near what is realised under covariate shift, contradicted under concept drift."""

from math import sqrt

import numpy as np
import pytest

from schemas.specs import Costs, Task
from services.monitor.domain.entries import Score, Settled
from services.monitor.domain.estimate import Expectation
from services.monitor.domain.realised import Baseline, Realised
from shared.expectation import count
from shared.quality import metrics
from shared.reference import Counts
from tests.unit.estimate_cases import SHIFTS, Case, case, inputs_of, labels_of

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def binary() -> Case:
    return case("binary", 0)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("seed", range(5))
def test_a_roc_auc_estimated_under_covariate_shift_lies_within_two_hundredths(seed: int, shift: str) -> None:
    served, rng = case("binary", seed), np.random.default_rng(100 + seed)
    inputs = inputs_of(rng, 10_000, *SHIFTS[shift])

    estimated = served.estimate(inputs)
    realised = metrics("binary", labels_of("binary", rng, inputs), served.outputs(inputs)[:, 0])

    assert estimated.method == "cbpe"
    assert abs(estimated.metrics["roc_auc"] - realised["roc_auc"]) <= 0.02
    assert max(abs(estimated.metrics[name] - realised[name]) for name in ("accuracy", "f1", "brier")) <= 0.03
    assert abs(estimated.metrics["log_loss"] - realised["log_loss"]) <= 0.05


def test_macro_metrics_of_several_classes_are_estimated_likewise() -> None:
    served, rng = case("multiclass", 1), np.random.default_rng(1)
    inputs = inputs_of(rng, 10_000, 0.7)

    estimated = served.estimate(inputs).metrics
    realised = metrics("multiclass", labels_of("multiclass", rng, inputs), served.outputs(inputs))

    assert estimated.keys() <= realised.keys()
    assert max(abs(estimated[name] - realised[name]) for name in ("roc_auc", "accuracy", "f1", "brier")) <= 0.03


@pytest.mark.parametrize("seed", range(2))
def test_the_error_of_a_number_is_estimated_within_a_tenth_where_it_grows_with_the_inputs(seed: int) -> None:
    served, rng = case("regression", seed), np.random.default_rng(seed)
    inputs = inputs_of(rng, 10_000, 0.7)

    usual, estimated = served.estimate(inputs_of(rng, 10_000)), served.estimate(inputs)
    realised = metrics("regression", labels_of("regression", rng, inputs), served.outputs(inputs))

    assert estimated.method == "dle"
    assert estimated.metrics["rmse"] > 1.2 * usual.metrics["rmse"]
    assert all(abs(value - realised[name]) <= 0.1 * realised[name] for name, value in estimated.metrics.items())


@pytest.mark.parametrize(("task", "seed"), [("binary", 0), ("multiclass", 1), ("regression", 0)])
def test_what_is_expected_of_each_row_is_on_the_average_what_is_expected_of_all(task: Task, seed: int) -> None:
    served, inputs = case(task, seed), inputs_of(np.random.default_rng(5), 2000, 0.5)
    outputs, estimated = served.outputs(inputs), served.estimate(inputs).metrics

    rows = served.expectation.of_rows(task, served.bins, inputs.astype(np.float32), outputs)

    assert rows is not None
    assert rows.shape == (2000,)
    whole = estimated["rmse"] ** 2 if task == "regression" else estimated["brier"]
    assert rows.mean() == pytest.approx(whole, rel=0.01)


def test_an_estimate_of_parts_counted_in_any_order_is_equal_to_the_last_bit(binary: Case) -> None:
    inputs = inputs_of(np.random.default_rng(2), 3000, 0.5)
    order = np.random.default_rng(3).permutation(3000)

    whole = count(binary.outputs(inputs))
    parts = [count(binary.outputs(inputs)[each]) for each in np.array_split(order, 7)]

    assert (np.sum(parts, axis=0) == whole).all()


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_features_are_ranked_by_what_their_shift_does_to_the_expected_loss(task: Task) -> None:
    served, rng = case(task, 4), np.random.default_rng(4)
    inputs = inputs_of(rng, 10_000, 1.0)
    inputs[:, 3] += 2.0  # far, and of no consequence

    effects = served.expectation.effects(task, served.bins, served.counts(inputs, served.outputs(inputs)))

    assert max(("x0", "x3"), key=lambda name: abs(effects[name])) == "x0"


def test_a_reference_without_expectations_estimates_nothing(binary: Case) -> None:
    nothing, empty = Expectation.of({}, binary.bins), count(np.empty((0, 1)))

    assert nothing.estimate("binary", binary.bins, _counts(binary), empty, None) is None
    assert nothing.estimate("regression", binary.bins, _counts(binary), empty, None) is None


def test_realised_quality_contradicts_the_estimate_when_inputs_mean_something_else(binary: Case) -> None:
    rng = np.random.default_rng(5)
    inputs = inputs_of(rng, 2000)
    estimate = [(0, 3000 * HOUR, binary.estimate(inputs).metrics["roc_auc"])]
    same, turned = (realised(binary, inputs, labels_of("binary", rng, inputs, turned=each)) for each in (False, True))

    usual, drifted = (each.quality("binary", None, estimate) for each in (same, turned))
    found = turned.check("binary", Baseline(value=0.85, rows=2000), 0.001, estimate)

    assert (usual.disagrees, drifted.disagrees) == (False, True)
    assert drifted.expected["roc_auc"] - drifted.metrics["roc_auc"] > 0.2
    assert found is not None
    assert "what leads from inputs to labels has changed" in found.explanation


def test_decay_that_the_estimate_had_seen_is_said_to_be_of_the_inputs(binary: Case) -> None:
    rng = np.random.default_rng(6)
    inputs = inputs_of(rng, 2000, 0.0, 0.1)
    estimate = [(0, 3000 * HOUR, binary.estimate(inputs).metrics["roc_auc"])]

    found = realised(binary, inputs, labels_of("binary", rng, inputs)).check(
        "binary", Baseline(value=0.85, rows=2000), 0.001, estimate
    )

    assert found is not None
    assert "it is they that have changed" in found.explanation


def test_the_cost_of_a_prediction_goes_by_the_cost_matrix() -> None:
    outputs = np.array([[0.9], [0.9], [0.1], [0.1]])
    held = Realised()
    held.add(
        [settled(index, label, row) for index, (label, row) in enumerate(zip([1, 0, 1, 0], outputs, strict=True))], 9
    )

    quality = held.quality("binary", Costs(false_positive=1, false_negative=5), [])

    assert quality.cost == (1 + 5) / 4
    assert quality.errors["roc_auc"] == pytest.approx(sqrt(0.0625 * 2 + 0.125), rel=0.5)


def realised(served: Case, inputs: np.ndarray, labels: np.ndarray) -> Realised:
    held = Realised()
    outputs = served.outputs(inputs)
    held.add([settled(index, label, row) for index, (label, row) in enumerate(zip(labels, outputs, strict=True))], 2000)
    return held


def settled(index: int, label: float, output: np.ndarray) -> Settled:
    score = Score(1, 1, "champion", tuple(output.tolist()))
    return Settled(index * HOUR, 0, f"e{index}", float(label), score, None)


def _counts(served: Case) -> Counts:
    return served.bins.reference
