"""What a candidate was made from, and the parts of its rows that nobody declared."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from services.validator.domain.evidence import Evidence, Learned
from services.validator.domain.spot_gates import weak_spots
from tests.unit.test_gates import ROWS, evidence_of, good, sigmoid, two, verdict


def with_column(evidence: Evidence, column: int, values: Any) -> Evidence:
    """The same evidence, with other values of one feature in all its rows."""
    inputs = evidence.rows.inputs.copy()
    inputs[:, column] = values
    scored, learned = dataclasses.replace(evidence.rows, inputs=inputs), evidence.learned
    assert learned
    return dataclasses.replace(evidence, scored=scored, learned=dataclasses.replace(learned, inputs=inputs))


def test_a_feature_that_knows_the_answer_is_suspected_whatever_its_shape() -> None:
    evidence = evidence_of({"leakage": {"max_alone": 0.95}})
    truth = evidence.rows.truth
    near_zero = np.where(truth == 1, 0.1, 3.0) * np.random.default_rng(1).choice([-1, 1], ROWS)

    leaking = with_column(evidence, 1, near_zero)
    gate = verdict(leaking, "leakage")

    assert verdict(evidence, "leakage").verdict == "passed"
    assert gate.verdict == "failed"
    assert "z alone reaches a roc_auc of 1.0000" in gate.reason


def test_a_field_that_is_filled_in_only_afterwards_is_suspected() -> None:
    evidence = evidence_of({"leakage": {}})

    gate = verdict(with_column(evidence, 1, np.where(evidence.rows.truth == 1, 5.0, np.nan)), "leakage")

    assert gate.verdict == "failed"


def test_leakage_into_a_number_is_measured_by_r2() -> None:
    evidence = evidence_of({"leakage": {"max_alone": 0.9}}, lambda inputs: inputs[:, 0].astype(np.float64),
                           task="regression", truth=lambda inputs, _: 3 * inputs[:, 1])  # fmt: skip

    gate = verdict(evidence, "leakage")

    assert gate.verdict == "failed"
    assert "z alone reaches a r2" in gate.reason


def poor_where_late_and_high(inputs: Any) -> Any:
    bad = (inputs[:, 3] == 1) & (inputs[:, 0] > 0.7)
    return np.where(bad[:, None], two(np.full(len(inputs), 0.2)), good(inputs))


def test_a_part_that_nobody_declared_is_found_measured_and_named() -> None:
    gate = verdict(evidence_of({"weak_spots": {"max_excess": 0.05}}, poor_where_late_and_high), "weak_spots")

    assert gate.verdict == "failed"
    assert "late=true" in gate.reason
    assert "x from 0.7" in gate.reason or "x from 0.6" in gate.reason


@pytest.mark.parametrize("seed", range(8))
def test_the_search_holds_nothing_against_a_candidate_that_knows_the_true_probability(seed: int) -> None:
    evidence = dataclasses.replace(evidence_of({"weak_spots": {"max_excess": 0.01, "min_rows": 100}}), seed=seed)

    assert verdict(evidence, "weak_spots").verdict == "passed"


def test_parts_that_are_found_do_not_repeat_each_other() -> None:
    found = weak_spots(evidence_of(predict=poor_where_late_and_high), 200)

    assert len({each["part"] for each in found}) == len(found) == 5
    assert all(each["rows"] >= 200 * 0.75 for each in found)


def test_weak_spots_of_a_regression_are_found() -> None:
    def off(inputs: Any) -> Any:
        return np.where(inputs[:, 2] == 1, -2.0, 1.0) * inputs[:, 0]

    asked = {"weak_spots": {"max_excess": 0.1}}
    evidence = evidence_of(asked, off, task="regression", truth=lambda inputs, _: inputs[:, 0].astype(float))

    gate = verdict(evidence, "weak_spots")

    assert gate.verdict == "failed"
    assert "place=b" in gate.reason


def learned(evidence: Evidence, codes: Any, truth: Any) -> Evidence:
    groups = tuple(dataclasses.replace(group, codes=codes) for group in evidence.rows.groups)
    made_from = Learned(truth=truth, inputs=evidence.rows.inputs, groups=groups)
    return dataclasses.replace(evidence, learned=made_from)


def test_a_group_that_hardly_anybody_learned_from_fails_representation() -> None:
    evidence = evidence_of({"representation": {"min_share": 0.05}})
    codes = np.where(np.arange(ROWS) < 90, 2.0, np.arange(ROWS) % 2)

    gate = verdict(learned(evidence, codes, evidence.rows.truth), "representation")

    assert (gate.verdict, gate.value) == ("failed", pytest.approx(0.03))
    assert "place=c has 90 of the 3000 rows" in gate.reason


def test_labels_that_favour_a_group_are_found_in_what_was_learned_from() -> None:
    evidence = evidence_of({"representation": {"max_label_gap": 0.2}})
    codes = np.arange(ROWS) % 3.0
    chances = np.array([0.8, 0.3, 0.4])[codes.astype(int)]
    biased = (np.random.default_rng(1).random(ROWS) < chances).astype(float)

    gate = verdict(learned(evidence, codes, biased), "label_gap")

    assert gate.verdict == "failed"
    assert "for a" in gate.reason
    assert "for b" in gate.reason
    assert verdict(evidence, "label_gap").verdict == "passed"


def test_representation_of_groups_that_nobody_declared_fails() -> None:
    evidence = evidence_of({"representation": {"max_label_gap": 0.5}})
    made_from = dataclasses.replace(evidence.learned, groups=()) if evidence.learned else None

    nobody = dataclasses.replace(evidence, learned=made_from)

    assert "sensitive" in verdict(nobody, "representation").reason
    assert (verdict(nobody, "representation").verdict, verdict(nobody, "label_gap").verdict) == ("failed", "failed")


def test_a_candidate_that_says_more_than_it_knows_is_weak_everywhere() -> None:
    certain = evidence_of({"weak_spots": {}}, lambda inputs: two(sigmoid(20.0 * inputs[:, 1])))

    gate = verdict(certain, "weak_spots")

    assert gate.verdict == "failed"
    assert gate.value is not None
    assert gate.value > 0.5
