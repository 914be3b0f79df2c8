"""Each gate against good candidates and planted bad ones."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from schemas.events.parts import Gate
from schemas.specs import Costs, FloatFeature, Gates, ModelSpec, StreamSpec
from services.validator.domain import bootstrap
from services.validator.domain.evidence import Evidence, Group, Learned, Predict, Scored
from services.validator.domain.fairness_gates import gaps
from services.validator.domain.gate import checks, judge
from shared.dataset import classes_of
from shared.matrix import signature_of
from shared.quality import calibration_error, metrics

ROWS = 3000
STREAM: dict[str, Any] = {
    "stream": "s",
    "entity": "e",
    "features": {
        "x": {"type": "float"},
        "z": {"type": "float"},
        "place": {"type": "category", "values": ["a", "b", "c"], "slice": True, "sensitive": True},
        "late": {"type": "bool"},
    },
}
LABELS = {"binary": "bool", "regression": "float", "multiclass": "category"}


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def two(probability: Any) -> Any:
    return np.column_stack([1 - probability, probability])


def good(inputs: Any) -> Any:
    """The true probability."""
    return two(sigmoid(1.5 * np.nan_to_num(inputs[:, 0].astype(np.float64))))


def evidence_of(
    gates: dict[str, Any] | None = None,
    predict: Predict = good,
    *,
    task: str = "binary",
    truth: Callable[[Any, Any], Any] | None = None,
    rows: int = ROWS,
    **scored: Any,
) -> Evidence:
    """A candidate on rows whose truth is drawn from `good`, unless `truth(inputs, generator)` says otherwise."""
    label = {"type": LABELS[task], "delay": "1h"} | ({"values": ["p", "q", "r"]} if task == "multiclass" else {})
    stream = StreamSpec.model_validate(STREAM | {"label": label})
    training = {"window": "9d", "min_rows": 100, "estimators": ["hist_gradient_boosting"]}
    spec = ModelSpec.model_validate(
        {"model": "m", "stream": "s", "owner": "o", "task": task, "features": ["x", "z", "place", "late"],
         "training": training, "gates": gates or {}}
    )  # fmt: skip
    generator = np.random.default_rng(11)
    columns = [generator.normal(size=rows), generator.normal(size=rows), generator.integers(0, 3, rows)]
    inputs = np.column_stack([*columns, generator.integers(0, 2, rows)]).astype(np.float32)
    drawn = truth(inputs, generator) if truth else (generator.random(rows) < good(inputs)[:, 1])
    place = Group(feature="place", values=("a", "b", "c"), codes=columns[2].astype(float), slice=True, sensitive=True)
    seen = Scored(
        truth=np.asarray(drawn, dtype=np.float64),
        inputs=inputs,
        groups=(place,),
        predict=predict,
        champion=None,
        champion_note="there is no champion yet",
        scikit_learn=predict(inputs),
        scikit_learn_note="",
        latencies_ms=np.full(1000, 0.1),
    )
    return Evidence(
        spec=spec,
        stream_spec=stream,
        signature=signature_of(stream, spec.features, classes_of(stream)),
        seed=7,
        size_bytes=100_000,
        scored=dataclasses.replace(seen, **scored),
        learned=Learned(truth=seen.truth, inputs=inputs, groups=seen.groups),
    )


def verdict(evidence: Evidence, name: str) -> Gate:
    return next(finding.gate for finding in judge(evidence) if finding.gate.name == name)


def test_a_good_candidate_passes_every_gate_that_is_asked() -> None:
    gates = {
        "roc_auc": {"min": 0.7}, "log_loss": {"max": 0.6}, "accuracy": {"min": 0.6}, "brier": {"max": 0.25},
        "f1": {"min": 0.5}, "calibration_error": {"max": 0.05}, "slices": {"max_gap": 0.1},
        "fairness": {"demographic_parity": 0.2, "equalized_odds": 0.2}, "leakage": {}, "weak_spots": {},
        "representation": {"min_share": 0.3, "max_label_gap": 0.1}, "robustness": {"unseen": 0.1, "extremes": 0.01},
        "monotonic": {"x": "increasing"}, "invariant": {"late": 0.01}, "latency_p99_ms": 5, "size_mb": 1,
    }  # fmt: skip

    found = {finding.gate.name: finding.gate for finding in judge(evidence_of(gates))}

    assert {gate.verdict for gate in found.values()} == {"passed", "not_asked"}
    assert {name for name, gate in found.items() if gate.verdict == "not_asked"} == {
        f"{metric}_vs_champion" for metric in ("roc_auc", "accuracy", "f1", "log_loss", "brier")
    }


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_every_gate_gives_a_reason_and_is_explicit_when_it_is_not_asked(check: Any) -> None:
    task = check.tasks[0]
    predict = good if task == "binary" else lambda inputs: inputs[:, 0].astype(np.float64)

    gate = check.judge(evidence_of(predict=predict, task=task)).gate

    assert gate.name == check.name
    assert len(gate.reason) > 20
    assert gate.verdict == ("passed" if check.name in {"parity", "signature", "safety"} else "not_asked")
    assert (gate.threshold is None) == (gate.verdict == "not_asked")


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_a_candidate_that_could_not_be_loaded_passes_no_gate_that_needs_it(check: Any) -> None:
    asked: dict[str, Any] = {
        name: {"min": 0.0, "not_worse_than_champion": 0.1} for name in ("roc_auc", "accuracy", "f1", "r2")
    }
    asked |= {name: {"max": 9.0, "not_worse_than_champion": 0.1} for name in ("log_loss", "brier", "mae", "rmse")}
    asked |= {"calibration_error": {"max": 1}, "slices": {"max_gap": 1}, "robustness": {}, "latency_p99_ms": 9}
    asked |= {"fairness": {"demographic_parity": 1, "equalized_odds": 1}, "monotonic": {"x": "increasing"}}
    asked |= {"weak_spots": {}, "leakage": {}, "representation": {"max_label_gap": 1}, "invariant": {"late": 1}}
    unloaded = dataclasses.replace(evidence_of(asked), scored=None, learned=None, safety=("onnx: external data",))

    gate = check.judge(unloaded).gate

    assert gate.verdict == {"signature": "passed", "size_mb": "not_asked"}.get(check.name, "failed")


def test_gate_names_are_distinct_and_cover_every_declarable_gate() -> None:
    names = [check.name for check in checks()]

    assert len(names) == len(set(names))
    assert set(Gates.model_fields) - {"fairness"} <= set(names)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "f1", "log_loss", "brier", "calibration_error"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_bootstrap_equals_the_plain_metric_of_the_resampled_rows(metric: str, task: Any) -> None:
    generator = np.random.default_rng(3)
    classes = 2 if task == "binary" else 3
    truth = generator.integers(0, classes, 300).astype(float)
    answers = np.round(generator.dirichlet(np.ones(classes), 300), 1) + 1e-3  # with ties
    answers /= answers.sum(axis=1, keepdims=True)
    drawn = bootstrap.weights(300, seed=5)

    got = bootstrap.replicates(metric, task, truth, answers, drawn)

    for draw in (0, 17, 499):
        rows = np.repeat(np.arange(300), drawn[draw].astype(int))
        assert got[draw] == pytest.approx(metrics(task, truth[rows], answers[rows])[metric])


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_bootstrap_of_a_regression_equals_the_plain_metric_of_the_resampled_rows(metric: str) -> None:
    generator = np.random.default_rng(3)
    truth = 50 + generator.normal(size=200)
    values = truth + generator.normal(size=200)
    drawn = bootstrap.weights(200, seed=5)

    got = bootstrap.replicates(metric, "regression", truth, values, drawn)

    rows = np.repeat(np.arange(200), drawn[9].astype(int))
    assert got[9] == pytest.approx(metrics("regression", truth[rows], values[rows])[metric])


def test_the_interval_of_an_auc_is_as_wide_as_theory_says() -> None:
    evidence = evidence_of()
    values = bootstrap.replicates("roc_auc", "binary", evidence.rows.truth, evidence.rows.answers, evidence.weights)

    low, high = bootstrap.interval(values)

    assert 0.015 < (high - low) / 2 < 0.02  # Hanley and McNeil (1982) give 1.96 * 0.0089 for 1500 against 1500
    assert low < evidence.metrics["roc_auc"] < high


def test_verdicts_are_the_same_for_the_same_seed() -> None:
    gates = {"roc_auc": {"min": 0.7}, "robustness": {}, "slices": {"max_gap": 0.1}}

    assert judge(evidence_of(gates)) == judge(evidence_of(gates))


def test_a_metric_below_its_minimum_fails_and_states_value_interval_and_expectation() -> None:
    gate = verdict(evidence_of({"roc_auc": {"min": 0.95}}), "roc_auc")

    assert gate.verdict == "failed"
    assert gate.value == pytest.approx(0.82, abs=0.03)
    assert gate.threshold == 0.95
    assert "95 % confidence" in gate.reason
    assert "at least 0.95" in gate.reason


def test_a_metric_above_its_maximum_fails_with_the_maximum_as_threshold() -> None:
    gate = verdict(evidence_of({"log_loss": {"min": 0.01, "max": 0.2}}), "log_loss")

    assert (gate.verdict, gate.threshold) == ("failed", 0.2)


def test_a_metric_of_another_task_fails_when_it_is_asked_and_is_left_out_otherwise() -> None:
    names = {finding.gate.name for finding in judge(evidence_of())}

    assert "mae" not in names
    assert verdict(evidence_of({"mae": {"max": 3}}), "mae").verdict == "failed"


def test_a_candidate_clearly_worse_than_the_champion_fails() -> None:
    blurred = evidence_of(
        {"roc_auc": {"not_worse_than_champion": 0.01}},
        lambda inputs: two(sigmoid(inputs[:, 0].astype(np.float64) + 2.0 * inputs[:, 1])),
    )
    against = dataclasses.replace(blurred, scored=dataclasses.replace(blurred.rows, champion=good(blurred.rows.inputs)))

    gate = verdict(against, "roc_auc_vs_champion")

    assert gate.verdict == "failed"
    assert gate.value is not None
    assert gate.value < -0.1


def test_a_candidate_that_is_worse_by_chance_only_passes_beside_the_champion() -> None:
    nearly = evidence_of(
        {"log_loss": {"not_worse_than_champion": 0.0}},
        lambda inputs: two(sigmoid(1.5 * inputs[:, 0].astype(np.float64) + 0.02 * inputs[:, 1])),
    )
    against = dataclasses.replace(nearly, scored=dataclasses.replace(nearly.rows, champion=good(nearly.rows.inputs)))

    assert verdict(against, "log_loss_vs_champion").verdict == "passed"


def test_a_smaller_loss_than_the_champions_counts_as_better() -> None:
    evidence = evidence_of({"log_loss": {"not_worse_than_champion": 0.0}})
    worse = two(np.full(ROWS, 0.5))
    against = dataclasses.replace(evidence, scored=dataclasses.replace(evidence.rows, champion=worse))

    gate = verdict(against, "log_loss_vs_champion")

    assert gate.verdict == "passed"
    assert gate.value is not None
    assert gate.value > 0.1


def test_without_a_champion_the_verdict_says_so() -> None:
    gate = verdict(evidence_of({"roc_auc": {"not_worse_than_champion": 0.01}}), "roc_auc_vs_champion")

    assert (gate.verdict, gate.value, gate.threshold) == ("no_champion", None, -0.01)


def test_an_overconfident_candidate_fails_calibration() -> None:
    certain = evidence_of(
        {"calibration_error": {"max": 0.05}}, lambda inputs: two(sigmoid(9 * inputs[:, 0].astype(np.float64)))
    )

    gate = verdict(certain, "calibration_error")

    assert gate.verdict == "failed"
    assert gate.value == pytest.approx(calibration_error(certain.rows.truth, certain.rows.answers[:, 1]))


def test_one_bad_slice_fails_and_is_named() -> None:
    def blind_in_b(inputs: Any) -> Any:
        return np.where((inputs[:, 2] == 1)[:, None], two(sigmoid(inputs[:, 1].astype(np.float64))), good(inputs))

    gate = verdict(evidence_of({"slices": {"max_gap": 0.1}}, blind_in_b), "slices")

    assert gate.verdict == "failed"
    assert "place=b" in gate.reason


def test_slices_below_the_minimum_of_rows_are_not_judged() -> None:
    gate = verdict(evidence_of({"slices": {"max_gap": 0.0, "min_rows": 2000}}), "slices")

    assert (gate.verdict, gate.value) == ("insufficient_data", None)
    assert "none has 2000" in gate.reason


def test_asking_for_slices_of_a_stream_that_declares_none_fails() -> None:
    assert verdict(evidence_of({"slices": {"max_gap": 0.1}}, groups=()), "slices").verdict == "failed"


def test_a_candidate_that_answers_groups_differently_fails_fairness() -> None:
    def favours_a(inputs: Any) -> Any:
        return two(sigmoid(1.5 * inputs[:, 0].astype(np.float64) + 3 * (inputs[:, 2] == 0)))

    evidence = evidence_of({"fairness": {"demographic_parity": 0.1, "equalized_odds": 0.1}}, favours_a)

    assert verdict(evidence, "fairness_demographic_parity").verdict == "failed"
    assert verdict(evidence, "fairness_equalized_odds").verdict == "failed"


def test_equalised_odds_allows_different_rates_of_truth_and_demographic_parity_does_not() -> None:
    evidence = evidence_of(truth=lambda inputs, _: inputs[:, 0] > (inputs[:, 2] == 0))
    knows = dataclasses.replace(evidence, scored=dataclasses.replace(evidence.rows, predict=knowing(evidence)))

    (parity,) = gaps(knows, knows.rows.groups[0], "demographic_parity")
    odds = gaps(knows, knows.rows.groups[0], "equalized_odds")

    assert parity["difference"] == pytest.approx(0.5 - 0.16, abs=0.05)
    assert [gap["difference"] for gap in odds] == [0.0, 0.0]


def knowing(evidence: Evidence) -> Predict:
    return lambda _inputs: two(evidence.rows.truth)


def test_a_group_that_differs_by_chance_only_passes_fairness() -> None:
    evidence = evidence_of({"fairness": {"demographic_parity": 0.0}}, rows=400)

    gate = verdict(evidence, "fairness_demographic_parity")

    assert gate.value is not None
    assert gate.value > 0
    assert gate.verdict == "passed"


def test_fairness_is_asked_of_the_answers_that_scorers_give_by_the_costs() -> None:
    evidence = evidence_of({"fairness": {"demographic_parity": 0.9}})
    costs = Costs(false_positive=1, false_negative=9)
    costly = dataclasses.replace(evidence, spec=evidence.spec.model_copy(update={"costs": costs}))

    assert evidence.said.mean() == pytest.approx(0.5, abs=0.05)
    assert costly.said.mean() == pytest.approx((costly.rows.answers[:, 1] >= 0.1).mean())


def test_a_candidate_that_hangs_on_the_last_digits_of_a_number_fails_robustness() -> None:
    generator = np.random.default_rng(0)
    secret = generator.integers(0, 2, ROWS).astype(float)

    def parity_of_thousandths(inputs: Any) -> Any:
        return two(np.where(np.round(inputs[:, 0] * 1000) % 2 == 0, 0.1, 0.9))

    evidence = evidence_of({"robustness": {"noise": 0.02, "missing": 0.0}}, parity_of_thousandths)
    inputs = evidence.rows.inputs.copy()
    inputs[:, 0] = (np.floor(inputs[:, 0] * 500) * 2 + secret) / 1000
    planted = dataclasses.replace(evidence, scored=dataclasses.replace(evidence.rows, inputs=inputs, truth=secret))

    gate = verdict(planted, "robustness")

    assert planted.metrics["roc_auc"] == 1.0
    assert gate.verdict == "failed"
    assert "noise" in gate.reason


def test_a_candidate_that_breaks_without_values_fails_robustness() -> None:
    def lost_without(inputs: Any) -> Any:
        blank = np.isnan(inputs[:, :2]).any(axis=1)[:, None]
        return np.where(blank, two(1 - good(inputs)[:, 1]), good(inputs))

    gate = verdict(evidence_of({"robustness": {"noise": 0.0, "missing": 0.2}}, lost_without), "robustness")

    assert gate.verdict == "failed"
    assert "missing" in gate.reason


def test_a_candidate_that_breaks_on_categories_it_has_not_seen_fails_robustness() -> None:
    def needs_a_place(inputs: Any) -> Any:
        return np.where(np.isnan(inputs[:, 2])[:, None], two(1 - good(inputs)[:, 1]), good(inputs))

    gate = verdict(evidence_of({"robustness": {"missing": 0.0, "unseen": 0.2}}, needs_a_place), "robustness")

    assert gate.verdict == "failed"
    assert "unseen categories" in gate.reason


def test_a_candidate_that_one_extreme_number_throws_off_fails_robustness() -> None:
    def linear(inputs: Any) -> Any:
        return two(sigmoid(1.5 * np.nan_to_num(inputs[:, 0].astype(np.float64)) + 0.2 * inputs[:, 1]))

    asked = {"robustness": {"missing": 0.0, "extremes": 0.2, "max_drop": 0.05}}
    gate = verdict(evidence_of(asked, linear), "robustness")

    assert gate.verdict == "failed"
    assert "extreme values" in gate.reason


def test_extremes_lie_at_the_ends_of_the_declared_range() -> None:
    evidence = evidence_of({"robustness": {"noise": 0.0, "missing": 0.0, "extremes": 0.5}})
    features = dict(evidence.stream_spec.features) | {"x": FloatFeature(type="float", min=-7, max=9)}
    seen: list[float] = []

    def looks(inputs: Any) -> Any:
        seen.extend((float(inputs[:, 0].min()), float(inputs[:, 0].max())))
        return good(inputs)

    stream = evidence.stream_spec.model_copy(update={"features": features})
    scored = dataclasses.replace(evidence.rows, predict=looks)
    judge(dataclasses.replace(evidence, stream_spec=stream, scored=scored))

    assert (min(seen), max(seen)) == (-7.0, 9.0)


def test_required_features_never_go_missing() -> None:
    def must_not_be_missing(inputs: Any) -> Any:
        assert not np.isnan(inputs[:, 0]).any()
        return good(inputs)

    evidence = evidence_of({"robustness": {"missing": 0.5}})
    features = {**evidence.stream_spec.features}
    features["x"] = features["x"].model_copy(update={"required": True})
    strict = dataclasses.replace(
        evidence,
        stream_spec=evidence.stream_spec.model_copy(update={"features": features}),
        scored=dataclasses.replace(evidence.rows, predict=must_not_be_missing),
    )
    check = next(each for each in checks() if each.name == "robustness")

    assert check.judge(strict).gate.verdict == "passed"


@pytest.mark.parametrize(("direction", "expected"), [("increasing", "passed"), ("decreasing", "failed")])
def test_monotonicity_is_asked_in_the_declared_direction(direction: str, expected: str) -> None:
    assert verdict(evidence_of({"monotonic": {"x": direction}}), "monotonic").verdict == expected


def test_a_dip_in_a_rising_score_fails_monotonicity() -> None:
    def dips(inputs: Any) -> Any:
        x = np.nan_to_num(inputs[:, 0].astype(np.float64))
        return two(sigmoid(1.5 * x - 2.0 * ((x > 0.5) & (x < 0.8))))

    gate = verdict(evidence_of({"monotonic": {"x": "increasing"}}, dips), "monotonic")

    assert gate.verdict == "failed"
    assert "raising x" in gate.reason


def test_monotonicity_of_a_category_cannot_be_asked() -> None:
    gate = verdict(evidence_of({"monotonic": {"place": "increasing"}}), "monotonic")

    assert gate.verdict == "failed"
    assert "place" in gate.reason


def test_a_candidate_that_moves_with_what_should_not_matter_fails_and_is_told_how_much() -> None:
    def looks_at_the_place(inputs: Any) -> Any:
        return two(sigmoid(1.5 * inputs[:, 0].astype(np.float64) + (inputs[:, 2] == 0)))

    asked = {"invariant": {"late": 0.01, "place": 0.02}}
    gate = verdict(evidence_of(asked, looks_at_the_place), "invariant")

    assert (gate.verdict, gate.threshold) == ("failed", 0.02)
    assert "exchanging place between rows" in gate.reason


def test_onnx_unlike_scikit_learn_fails_parity() -> None:
    evidence = evidence_of()
    other = evidence.rows.answers + np.array([-1e-3, 1e-3])
    gate = verdict(
        dataclasses.replace(evidence, scored=dataclasses.replace(evidence.rows, scikit_learn=other)), "parity"
    )

    assert gate.verdict == "failed"
    assert gate.value == pytest.approx(1e-3)


@pytest.mark.parametrize(("rows_apart", "expected"), [(3, "passed"), (4, "failed")])
def test_one_row_in_a_thousand_may_lie_across_a_float32_threshold(rows_apart: int, expected: str) -> None:
    evidence = evidence_of()
    other = evidence.rows.answers.copy()
    other[:rows_apart] = two(np.full(rows_apart, 0.987654))

    gate = verdict(
        dataclasses.replace(evidence, scored=dataclasses.replace(evidence.rows, scikit_learn=other)), "parity"
    )

    assert gate.verdict == expected
    assert f"in {rows_apart} of 3000 rows" in gate.reason


def test_a_scikit_learn_form_that_could_not_be_loaded_fails_parity() -> None:
    evidence = evidence_of()
    without = dataclasses.replace(evidence.rows, scikit_learn=None, scikit_learn_note="untrusted types")

    gate = verdict(dataclasses.replace(evidence, scored=without), "parity")

    assert gate.verdict == "failed"
    assert "untrusted types" in gate.reason


def test_values_other_than_the_stream_declares_fail_the_signature() -> None:
    evidence = evidence_of()
    features = list(evidence.signature.features)
    features[2] = features[2].model_copy(update={"values": ("b", "a", "c")})
    odd = evidence.signature.model_copy(update={"features": tuple(features)})

    gate = verdict(dataclasses.replace(evidence, signature=odd), "signature")

    assert gate.verdict == "failed"
    assert "place" in gate.reason


def test_answers_that_are_no_probabilities_fail_the_signature() -> None:
    assert verdict(evidence_of(predict=lambda inputs: 2 * good(inputs)), "signature").verdict == "failed"


def test_answers_that_are_not_numbers_fail_every_gate_that_needs_them_and_no_value_is_sent() -> None:
    def sometimes_nan(inputs: Any) -> Any:
        return np.where((inputs[:, 0] > 2)[:, None], np.nan, good(inputs))

    found = judge(evidence_of({"roc_auc": {"min": 0.5}, "calibration_error": {"max": 0.5}}, sometimes_nan))

    failed = {finding.gate.name: finding.gate for finding in found if finding.gate.verdict == "failed"}
    assert set(failed) == {"roc_auc", "calibration_error", "signature", "parity"}
    assert failed["roc_auc"].value is None
    assert "finite" in failed["roc_auc"].reason


def test_a_metric_that_the_rows_do_not_define_fails_without_a_value() -> None:
    gate = verdict(evidence_of({"roc_auc": {"min": 0.5}}, truth=lambda inputs, _: np.zeros(len(inputs))), "roc_auc")

    assert (gate.verdict, gate.value) == ("failed", None)
    assert "finite" in gate.reason


def test_no_held_out_rows_fail_what_needs_them() -> None:
    gate = verdict(evidence_of({"roc_auc": {"min": 0.5}}, rows=0), "roc_auc")

    assert gate.verdict == "failed"
    assert "no held-out row" in gate.reason


def test_what_is_unsafe_fails_with_each_finding_in_the_reason() -> None:
    found = ("onnx: got external data", "skops: untrusted types")

    gate = verdict(dataclasses.replace(evidence_of(), safety=found), "safety")

    assert (gate.verdict, gate.value) == ("failed", 2.0)
    assert all(each in gate.reason for each in found)


def test_a_slow_candidate_fails_on_its_slowest_hundredth() -> None:
    times = np.r_[np.full(985, 0.1), np.full(15, 9.0)]

    gate = verdict(evidence_of({"latency_p99_ms": 5}, latencies_ms=times), "latency_p99_ms")

    assert (gate.verdict, gate.value) == ("failed", 9.0)


def test_an_oversized_candidate_fails() -> None:
    gate = verdict(evidence_of({"size_mb": 0.05}), "size_mb")

    assert (gate.verdict, gate.value) == ("failed", 0.1)


def test_regression_is_judged_by_its_own_metrics_slices_and_robustness() -> None:
    def line(inputs: Any) -> Any:
        return 2.0 * np.nan_to_num(inputs[:, 0].astype(np.float64))

    gates = {
        "rmse": {"max": 1.2}, "mae": {"max": 0.5}, "r2": {"min": 0.5}, "slices": {"max_gap": 0.2},
        "robustness": {"missing": 0.0}, "monotonic": {"x": "increasing"},
    }  # fmt: skip
    evidence = evidence_of(
        gates, line, task="regression", truth=lambda inputs, generator: line(inputs) + generator.normal(size=ROWS)
    )

    found = {finding.gate.name: finding.gate.verdict for finding in judge(evidence)}

    assert found["mae"] == "failed"
    assert {name for name, said in found.items() if said == "failed"} == {"mae"}


def test_three_classes_are_judged() -> None:
    def three(inputs: Any) -> Any:
        x = np.nan_to_num(inputs[:, :1].astype(np.float64))
        raw = np.exp(x @ np.array([[2.0, 0.0, -2.0]]))
        return raw / raw.sum(axis=1, keepdims=True)

    def drawn(inputs: Any, generator: Any) -> Any:
        return (three(inputs).cumsum(axis=1) < generator.random((len(inputs), 1))).sum(axis=1)

    gates = {
        "roc_auc": {"min": 0.7}, "f1": {"min": 0.4}, "calibration_error": {"max": 0.05}, "slices": {"max_gap": 0.1},
        "robustness": {}, "fairness": {"demographic_parity": 0.2},
    }  # fmt: skip

    found = judge(evidence_of(gates, three, task="multiclass", truth=drawn))

    assert {finding.gate.verdict for finding in found} == {"passed", "not_asked"}
