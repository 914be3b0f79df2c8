"""The trainer's decisions: what is tried, on which rows, how it is calibrated, exported and written down."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from schemas.events.parts import Cut
from schemas.specs import TASKS_OF, Estimator, Task
from services.trainer.domain import learning
from services.trainer.domain.graphs import graph_of
from services.trainer.domain.learning import SHARES, Parts, Trial, attempt, best_of, matured, shipped, spans_of
from services.trainer.domain.records import Recipe, canonical, manifest_of, reference_of
from services.trainer.domain.search import Configuration, configurations
from shared import scikit
from shared.dataset import Dataset, time_split
from shared.expectation import CELLS
from shared.quality import calibration_error, metrics
from shared.runtime import Model, Scores
from tests.unit.trainer_cases import START, cut_at, model_for, rows_for, signature_for, stream_for

ESTIMATORS: Sequence[Estimator] = get_args(Estimator)
LEARNABLE = [(estimator, task) for estimator in ESTIMATORS for task in sorted(TASKS_OF[estimator])]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on busy cores would make these tests slow."""
    with threadpool_limits(limits=1):
        yield


def parts_for(task: str, rows: int = 900) -> Parts:
    return parts_of(rows_for(task, rows), task)


def parts_of(dataset: Dataset, task: str) -> Parts:
    return spans_of(dataset, signature_for(task), stream_for(task), None)[0]


def trial_of(estimator: Any, task: Any, parts: Parts, parameters: Mapping[str, float] | None = None) -> Trial:
    configuration = Configuration(estimator=estimator, parameters=parameters or {})
    return attempt(configuration, parts, signature_for(task), task, seed=7)


def test_a_search_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first = configurations(ESTIMATORS, 9, seed=7)

    assert first == configurations(ESTIMATORS, 9, seed=7)
    assert first != configurations(ESTIMATORS, 9, seed=8)
    assert first[:4] == configurations(ESTIMATORS, 4, seed=7)


def test_a_search_takes_the_declared_estimators_in_turn() -> None:
    found = configurations(["ridge", "hist_gradient_boosting"], 5, seed=1)

    assert [each.estimator for each in found] == ["ridge", "hist_gradient_boosting"] * 2 + ["ridge"]
    assert len({tuple(each.parameters.items()) for each in found}) == 5


def test_an_estimator_that_cannot_learn_the_task_is_named() -> None:
    assert model_for("binary", ["ridge"]).unsuitable() is not None
    assert model_for("regression", ["ridge", "hist_gradient_boosting"]).unsuitable() is None


def test_the_parts_follow_each_other_in_time_and_share_no_row() -> None:
    dataset = rows_for("binary", 1000)

    parts = parts_of(dataset, "binary")

    assert [len(parts.train), len(parts.calibrate), len(parts.test)] == [1000 * share for share in SHARES]
    assert list(parts.until) == sorted(parts.until)
    together = np.concatenate([parts.train.labels, parts.calibrate.labels, parts.test.labels])
    assert together.tolist() == dataset.labels.tolist()


def test_after_a_change_both_spans_are_judged_by_the_same_newest_rows() -> None:
    dataset, changed = rows_for("binary", 1000), START + timedelta(minutes=600, seconds=-1)

    newer, whole = spans_of(dataset, signature_for("binary"), stream_for("binary"), changed)

    assert [len(each.train) for each in (newer, whole)] == [280, 880]
    assert newer.until == whole.until
    assert newer.calibrate.labels.tolist() == whole.calibrate.labels.tolist() == dataset.labels[880:940].tolist()
    assert newer.test.labels.tolist() == dataset.labels[940:].tolist()


@pytest.mark.parametrize("minutes", [-5, 950], ids=["the window begins later", "too few have come since"])
def test_a_change_with_nothing_before_it_or_little_since_leaves_one_span(minutes: int) -> None:
    changed = START + timedelta(minutes=minutes)

    spans = spans_of(rows_for("binary", 1000), signature_for("binary"), stream_for("binary"), changed)

    assert [len(each.train) for each in spans] == [700]


def test_a_change_since_which_a_class_is_rare_leaves_one_span() -> None:
    dataset, changed = rows_for("binary", 1000), START + timedelta(minutes=600)
    labels = np.where(np.arange(1000) < 900, dataset.labels, np.arange(1000) % 25 == 0)
    late = Dataset(**(vars(dataset) | {"labels": labels.astype(np.float64)}))

    spans = spans_of(late, signature_for("binary"), stream_for("binary"), changed)

    assert [len(each.train) for each in spans] == [700]


@pytest.mark.parametrize("turned", [False, True])
def test_where_the_world_has_changed_clean_rows_win_and_where_not_many_do(turned: bool) -> None:
    dataset, changed = rows_for("binary", 3000), START + timedelta(minutes=2400)
    labels = np.where((np.arange(3000) < 2400) & turned, 1 - dataset.labels, dataset.labels)
    spans = spans_of(
        Dataset(**vars(dataset) | {"labels": labels}), signature_for("binary"), stream_for("binary"), changed
    )

    chosen = best_of([trial_of("hist_gradient_boosting", "binary", span) for span in spans], "binary")

    assert (chosen.parts.after == changed) is turned


def test_of_two_spans_the_loss_decides_as_a_ranking_may_outlive_its_meaning() -> None:
    spans = spans_of(
        rows_for("binary", 1000), signature_for("binary"), stream_for("binary"), START + timedelta(hours=8)
    )
    newer, whole = (trial_of("logistic_regression", "binary", span) for span in spans)
    ranked, calibrated = replace(whole, score=0.99, loss=0.7), replace(newer, score=0.98, loss=0.5)

    assert best_of([ranked, calibrated], "binary") is calibrated


def test_rows_whose_labels_may_still_be_on_their_way_are_left_out() -> None:
    dataset = rows_for("binary", 300)  # one a minute; the label of this stream takes up to an hour

    kept = matured(dataset, stream_for("binary"), START + timedelta(minutes=200))

    assert len(kept) == 141


def test_too_few_rows_are_refused_with_what_was_expected() -> None:
    assert learning.too_few(100, model_for("binary")) is None
    assert (
        learning.too_few(99, model_for("binary"))
        == "expected 100 labelled rows in a window of 60 days, 0:00:00, got 99"
    )
    assert learning.too_few(499, model_for("binary", min_rows=1000)) is not None


def test_a_class_that_hardly_occurs_in_a_part_is_refused_by_name() -> None:
    dataset = rows_for("binary", 400)
    one_sided = Dataset(**(vars(dataset) | {"labels": np.where(np.arange(400) < 300, dataset.labels, 1.0)}))

    parts = parts_of(one_sided, "binary")

    assert learning.too_one_sided(parts, ("false", "true")) == "expected 5 rows of 'false' in the test part, got 0"
    assert learning.too_one_sided(parts_for("regression"), ()) is None


def test_the_best_trial_has_the_highest_area_or_the_lowest_error_and_ties_go_to_the_first() -> None:
    one = trial_of("ridge", "regression", parts_for("regression"))
    trials = [replace(one, score=score) for score in (0.6, 0.7, 0.5, 0.7, 0.5)]

    assert best_of(trials, "binary") is trials[1]
    assert best_of(trials, "regression") is trials[2]


@pytest.mark.parametrize(("estimator", "task"), LEARNABLE)
def test_what_is_shipped_learns_and_scores_the_same_in_onnx_scikit_learn_and_skops(
    estimator: Estimator, task: Task
) -> None:
    parts, signature = parts_for(task), signature_for(task)

    pipeline = shipped(trial_of(estimator, task, parts), signature)
    scores = Model(graph_of(pipeline, signature), signature).score(parts.test.inputs)

    loaded = scikit.loads(scikit.dumps(pipeline))
    if signature.classes:
        assert scores.probabilities == pytest.approx(pipeline.predict_proba(parts.test.inputs), abs=1e-5)
        assert np.array_equal(loaded.predict_proba(parts.test.inputs), pipeline.predict_proba(parts.test.inputs))
        assert metrics(task, parts.test.labels, scores.probabilities)["roc_auc"] > 0.8
    else:
        assert scores.score == pytest.approx(pipeline.predict(parts.test.inputs), abs=1e-4)
        assert np.array_equal(loaded.predict(parts.test.inputs), pipeline.predict(parts.test.inputs))
        assert metrics(task, parts.test.labels, scores.score)["r2"] > 0.4


@pytest.mark.parametrize(("estimator", "task"), LEARNABLE)
def test_fitting_and_exporting_twice_gives_the_same_bytes(estimator: Estimator, task: Task) -> None:
    parts, signature = parts_for(task), signature_for(task)

    graphs = {graph_of(shipped(trial_of(estimator, task, parts), signature), signature) for _ in range(2)}

    assert len(graphs) == 1


def test_what_a_graph_lists_stands_in_the_same_order_in_every_process() -> None:
    program = "from tests.unit.test_trainer import a_graph; print(digest_of(a_graph()))"
    digests = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"from shared.objects import digest_of; {program}"],
            env=os.environ | {"PYTHONHASHSEED": seed},  # 0 and 1 put the names of operator sets in different orders
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }

    assert len(digests) == 1


def a_graph() -> bytes:
    parts, signature = parts_for("binary"), signature_for("binary")
    return graph_of(trial_of("logistic_regression", "binary", parts).fitted, signature)


def test_the_shipped_model_has_seen_the_calibration_rows_and_not_the_test_rows() -> None:
    parts, signature = parts_for("binary"), signature_for("binary")
    trial = trial_of("hist_gradient_boosting", "binary", parts)
    other_test = Parts(train=parts.train, calibrate=parts.calibrate, test=parts.train, until=parts.until)

    others = replace(trial, parts=other_test)

    first, second = (graph_of(shipped(each, signature), signature) for each in (trial, others))

    calibrated: CalibratedClassifierCV = shipped(trial, signature)[-1]
    assert first == second
    assert calibrated.estimator.n_iter_ == trial.fitted[-1].n_iter_
    assert graph_of(trial.fitted, signature) != first


def test_calibration_mends_the_probabilities_of_an_overconfident_model() -> None:
    parts, signature = parts_for("binary", 3000), signature_for("binary")
    greedy = {"max_iter": 300, "learning_rate": 0.5, "min_samples_leaf": 2, "max_leaf_nodes": 63}
    trial = trial_of("hist_gradient_boosting", "binary", parts, greedy)

    pipeline = shipped(trial, signature)

    def error(model: Any) -> float:
        return calibration_error(parts.test.labels, model.predict_proba(parts.test.inputs)[:, 1])

    assert error(pipeline) < 0.7 * error(trial.fitted)


def test_a_graph_answers_with_probabilities_alone() -> None:
    parts, signature = parts_for("multiclass"), signature_for("multiclass")

    model = Model(graph_of(trial_of("logistic_regression", "multiclass", parts).fitted, signature), signature)

    probabilities = model.score(parts.test.inputs).probabilities
    assert probabilities is not None
    assert probabilities.shape == (len(parts.test), 3)
    assert [output.name for output in model._session.get_outputs()] == ["probabilities"]


def recipe_of(task: str, cut: Cut | None = None) -> Recipe:
    spec = model_for(task)
    return Recipe(model="m", run_id="r", spec=spec, stream_spec=stream_for(task), cut=cut or cut_at(), seed=7)


def test_a_manifest_is_canonical_and_holds_the_recipe_it_was_made_from() -> None:
    parts = parts_for("binary")
    trial = trial_of("logistic_regression", "binary", parts, {"C": 0.5})
    recipe = recipe_of("binary")

    data = manifest_of(
        recipe,
        provenance={"code_version": "abc"},
        trials=[trial],
        chosen=trial,
        classes=("false", "true"),
        parity=0.0,
        rows_digest="sha256:2",
        digests={"onnx": "sha256:1"},
    )

    manifest = json.loads(data)
    assert canonical(manifest) == data
    assert Recipe.of_manifest(data) == recipe
    assert manifest["chosen"] == {
        "estimator": "logistic_regression",
        "parameters": {"C": 0.5},
        "rows": 630,
        "score": trial.score,
        "loss": trial.loss,
    }
    assert manifest["split"]["rows"] == {"train": 630, "calibrate": 135, "test": 135}


def test_a_reference_counts_features_as_they_are_decoded_and_scores_of_the_test_rows() -> None:
    dataset, signature = rows_for("binary"), signature_for("binary")

    reference = json.loads(
        reference_of(
            dataset,
            stream_spec=stream_for("binary"),
            signature=signature,
            task="binary",
            test=dataset.part(*time_split(dataset.times, SHARES)[1:]),
            scores=Scores(score=np.linspace(0, 1, 135), probabilities=None),
            metrics={"roc_auc": 0.9},
            window=100,
        )
    )

    counted = {name: sum(feature["counts"]) for name, feature in reference["features"].items()}
    absent = {name: feature.get("missing", feature.get("unseen")) for name, feature in reference["features"].items()}
    assert all(counted[name] + absent[name] == 900 for name in ("x", "empty", "kind", "flag"))
    assert set(reference["features"]["x"]["edges"]) <= set(dataset.matrix[:, 0].tolist())
    assert sum(reference["score"]["counts"]) == 135
    assert reference["features"]["x"]["blocks"]["rows"] == 100
    assert len(reference["features"]["kind"]["blocks"]["distances"]) == 9
    assert np.shape(reference["expected"]["calibration"]) == (1, CELLS)
    assert reference["expected"]["losses"]["brier"]["tables"].keys() == reference["features"].keys()
    assert "blocks" not in reference["score"]  # too few for five blocks of fifty
    assert sum(reference["label"]["counts"].values()) == reference["rows"] == 900


def test_onnx_agrees_on_values_that_are_float32_neighbours() -> None:
    """The middle between two neighbours is no float32: rounded to the nearest, it may become the upper one."""
    low = np.float32(1018.9)
    values = np.tile(np.array([np.nextafter(low, np.float32(0)), low], dtype=np.float32), 300)
    inputs = np.column_stack([values, np.zeros((600, 3), dtype=np.float32)])
    rows = learning.Rows(inputs=inputs, labels=(values == low).astype(np.intp))
    parts = Parts(train=rows, calibrate=rows, test=rows, until=(START, START, START))

    pipeline = shipped(trial_of("hist_gradient_boosting", "binary", parts), signature_for("binary"))
    answers = Model(graph_of(pipeline, signature_for("binary")), signature_for("binary")).score(inputs).probabilities

    assert answers is not None
    assert np.abs(answers - pipeline.predict_proba(inputs)).max() < 1e-6
    assert (answers.argmax(axis=1) == rows.labels).all()
