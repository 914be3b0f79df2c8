"""trees.c scores forests as ONNX Runtime does, bit by bit, or leaves them to it."""

import math
import random
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline

from schemas.events.parts import Signature, SignatureFeature
from services.trainer.domain.calibration import calibrated
from services.trainer.domain.graphs import graph_of
from services.trainer.domain.pipelines import MODEL
from shared import runtime, trees
from shared.matrix import Inputs
from shared.runtime import Model
from shared.trees import Forest, forest_of

FEATURES = 3
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 0.1, -2.5, 1e-45, -1e-38, 3.4e38, -3.4e38]) | st.floats(
    width=32, allow_nan=False
)


class Trees:
    """Random trees as the attributes of a node."""

    def __init__(self, chance: random.Random, thresholds: Sequence[float]) -> None:
        self._chance, self._thresholds = chance, thresholds
        self.nodes: list[dict[str, Any]] = []
        self.leaves: list[tuple[int, int, float]] = []

    def grow(self, tree: int, leaves: int) -> None:
        """A tree of so many leaves, of any shape."""
        here = [self._node(tree, 0)]
        open_ends, count = [here[0]], 1
        for _ in range(leaves - 1):
            node = open_ends.pop(self._chance.randrange(len(open_ends)))
            left, right = self._node(tree, count), self._node(tree, count + 1)
            node |= {"mode": "BRANCH_LEQ", "true": count, "false": count + 1}
            node["value"], node["missing"] = self._chance.choice(self._thresholds), self._chance.randrange(2)
            count += 2
            open_ends += [left, right]
        self.leaves += [(tree, node["id"], self._chance.gauss(0, 1)) for node in open_ends]

    def _node(self, tree: int, number: int) -> dict[str, Any]:
        column = self._chance.randrange(FEATURES)
        node = {"tree": tree, "id": number, "mode": "LEAF", "feature": column, "true": 0, "false": 0, "value": 0.0}
        node["missing"] = 0
        self.nodes.append(node)
        return node

    def attributes(self, kind: str) -> dict[str, Any]:
        listed = {
            "treeids": "tree", "nodeids": "id", "modes": "mode", "featureids": "feature", "truenodeids": "true",
            "falsenodeids": "false", "values": "value", "missing_value_tracks_true": "missing",
        }  # fmt: skip
        nodes = {f"nodes_{name}": [node[key] for node in self.nodes] for name, key in listed.items()}
        places, names, weights = zip(*self.leaves, strict=True)
        return nodes | {
            f"{kind}_treeids": places, f"{kind}_nodeids": names, f"{kind}_weights": weights,
            f"{kind}_ids": [0] * len(names),
        }  # fmt: skip


def classifier(trees_: Trees, **others: Any) -> onnx.ModelProto:
    attributes = {"classlabels_int64s": [0, 1], "post_transform": "LOGISTIC", "base_values": [0.25]}
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml",
        **trees_.attributes("class") | attributes | others,
    )  # fmt: skip
    return model_of([node], "probabilities", 2)


def regressor(trees_: Trees, **others: Any) -> onnx.ModelProto:
    attributes = {"n_targets": 1, "post_transform": "NONE", "base_values": [0.25]}
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["value"], domain="ai.onnx.ml",
        **trees_.attributes("target") | attributes | others,
    )  # fmt: skip
    return model_of([node], "value", 1)


def model_of(nodes: list[onnx.NodeProto], output: str, width: int) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, width])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), opset_imports=opsets)
    model.ir_version = 8
    return model


def of_another_input() -> onnx.NodeProto:
    """The runtime sorts nodes itself: this one may stand before the one it reads from."""
    node = regressor(grown(5)).graph.node[0]
    node.input[0] = "y"
    return node


def of_runtime(data: bytes, rows: Inputs) -> Inputs:
    """On one thread, as it serves: several sum in another order."""
    session = runtime._session_of(data)
    found: Inputs = session.run([session.get_outputs()[-1].name], {session.get_inputs()[0].name: rows})[0]
    return found


def forest(model: onnx.ModelProto) -> Forest:
    """What trees.c is to score; also: it has been compiled here."""
    found = forest_of(model, FEATURES)
    assert found is not None, "trees.c was not compiled, or it knows no such forest"
    return found[0]


def grown(*leaves: int) -> Trees:
    chance = random.Random(7)
    made = Trees(chance, [chance.gauss(0, 1) for _ in range(50)])
    for number, count in enumerate(leaves):
        made.grow(number, count)
    return made


def signature(*classes: str) -> Signature:
    return Signature(
        features=tuple(SignatureFeature(name=f"x{each}", type="float") for each in range(FEATURES)), classes=classes
    )


@given(
    seed=st.integers(0, 2**32),
    leaves=st.lists(st.integers(1, 32), min_size=1, max_size=12),
    numbers=st.lists(NUMBERS, min_size=1, max_size=12),
    rows=st.integers(1, 50),
    transform=st.sampled_from(["", "NONE", "LOGISTIC"]),
)
@settings(max_examples=300, deadline=None)
def test_any_forest_of_small_trees_scores_as_the_runtime_does(
    seed: int, leaves: list[int], numbers: list[float], rows: int, transform: str
) -> None:
    chance = random.Random(seed)
    made = Trees(chance, numbers)
    for number, count in enumerate(leaves):
        made.grow(number, count)
    model = classifier(made, post_transform=transform) if transform else regressor(made)
    if transform == "NONE" and all(weight >= 0 for *_, weight in made.leaves):
        return  # no margins to the runtime
    values = [*numbers, *(float(np.nextafter(np.float32(each), np.float32(0))) for each in numbers), np.nan, np.inf]
    inputs = np.array([[chance.choice(values) for _ in range(FEATURES)] for _ in range(rows)], np.float32)

    assert forest(model).score(inputs).tobytes() == of_runtime(model.SerializeToString(), inputs).tobytes()


@pytest.mark.parametrize("task", ["binary", "calibrated", "regression"])
def test_what_the_trainer_makes_is_such_a_forest(task: str) -> None:
    """With values that are missing, of which every node says where they go."""
    rng = np.random.default_rng(3)
    rows = np.where(rng.random((3000, FEATURES)) < 0.1, np.nan, rng.normal(size=(3000, FEATURES))).astype(np.float32)
    answers = (np.nan_to_num(rows).sum(axis=1) + rng.normal(size=len(rows)) > 0).astype(int)
    kind: Any = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    fitted = Pipeline([(MODEL, kind(max_iter=60, random_state=0, early_stopping=False))]).fit(rows, answers)
    if task == "calibrated":
        fitted = calibrated(fitted, fitted, rows, answers)
    classes = () if task == "regression" else ("false", "true")
    data = graph_of(fitted, signature(*classes))

    found = forest_of(onnx.load_model_from_string(data), FEATURES)
    assert found is not None
    assert (found[1] is not None) == (task == "calibrated")
    model = Model(data, signature(*classes))
    assert model.is_forest
    assert model.score(rows).score.tolist() == of_runtime(data, rows)[:, -1].astype(float).tolist()


@pytest.mark.parametrize(
    "other",
    [
        classifier(grown(5, 33)),
        classifier(grown(5, 5), post_transform="SOFTMAX"),
        classifier(grown(5, 5), classlabels_int64s=[0, 1, 2]),
        classifier(grown(2, 3), class_ids=[0, 0, 1, 1, 1]),
        classifier(grown(5, 5), base_values=[0.25, 0.5]),
        regressor(grown(5, 5), n_targets=2),
        regressor(grown(5, 5), aggregate_function="AVERAGE"),
        regressor(grown(2), nodes_modes=["BRANCH_LT", "LEAF", "LEAF"]),
        regressor(grown(2), nodes_truenodeids=[0, 0, 0]),
        regressor(grown(2), nodes_featureids=[FEATURES, 0, 0]),
        regressor(grown(2), nodes_values=[math.nan, 0, 0]),
        regressor(grown(2), nodes_nodeids=[0, 1, 1]),
        regressor(grown(2), nodes_falsenodeids=[1, 0, 0]),
        regressor(grown(2), target_nodeids=[1, 1]),
        regressor(grown(2), nodes_modes=["BRANCH_LEQ", "LEAF"]),
        regressor(grown(2), target_nodeids=[1], target_treeids=[0], target_weights=[1.0], target_ids=[0]),
        regressor(grown(1, 1, 1), nodes_treeids=[0, 1, 0]),
        classifier(grown(2), post_transform="NONE", class_weights=[1.0, 2.0]),
        regressor(grown(2), base_values_as_tensor=helper.make_tensor("b", TensorProto.FLOAT, [1], [1e-9])),
        model_of([helper.make_node("Identity", ["x"], ["value"])], "value", FEATURES),
        model_of([of_another_input(), helper.make_node("Clip", ["x"], ["y"])], "value", 1),
        model_of(
            [*regressor(grown(5)).graph.node, helper.make_node("Mul", ["value", "x"], ["both"])], "both", FEATURES
        ),
    ],
)
def test_other_graphs_are_left_to_the_runtime(other: onnx.ModelProto) -> None:
    assert forest_of(other, FEATURES) is None


def test_a_forest_that_would_score_otherwise_is_left_to_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as where a C library rounds in another way."""
    data, rows = regressor(grown(7, 9)).SerializeToString(), np.ones((2, FEATURES), np.float32)
    right = of_runtime(data, rows)
    assert Model(data, signature()).is_forest
    near = trees.Forest.score
    monkeypatch.setattr(trees.Forest, "score", lambda self, rows: np.nextafter(near(self, rows), np.float32(9)))

    model = Model(data, signature())

    assert not model.is_forest
    assert model.score(rows).score.tolist() == right[:, 0].astype(float).tolist()


def test_a_track_of_what_is_missing_is_true_where_it_is_one() -> None:
    model = regressor(grown(2), nodes_missing_value_tracks_true=[2, 0, 0])
    rows = np.full((1, FEATURES), np.nan, np.float32)

    assert forest(model).score(rows).tobytes() == of_runtime(model.SerializeToString(), rows).tobytes()


def test_many_trees_without_tracks_take_no_more_room_than_they_have_nodes() -> None:
    tracemalloc.start()
    try:
        made = regressor(grown(*[1] * 20_000))
        made.graph.node[0].attribute.remove(
            next(each for each in made.graph.node[0].attribute if each.name == "nodes_missing_value_tracks_true")
        )
        tracemalloc.reset_peak()
        forest(made)
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()


def test_what_follows_a_forest_and_is_refused_alone_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = regressor(grown(7, 9))
    nodes = [*graph.graph.node, helper.make_node("Neg", ["value"], ["less"])]
    data, rows = model_of(nodes, "less", 1).SerializeToString(), np.ones((2, FEATURES), np.float32)
    assert Model(data, signature()).is_forest
    split = trees._rest
    monkeypatch.setattr(trees, "_rest", lambda model: without_opsets(split(model)))

    model = Model(data, signature())

    assert not model.is_forest
    assert model.score(rows).score.tolist() == of_runtime(data, rows)[:, 0].astype(float).tolist()


def without_opsets(model: onnx.ModelProto | None) -> onnx.ModelProto | None:
    assert model is not None
    del model.opset_import[:]
    return model


def test_the_sample_decides_nodes_either_way() -> None:
    model = classifier(grown(32, 32, 32))

    assert len(np.unique(forest(model).score(forest(model).sample()))) > 100


def test_without_the_library_the_runtime_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "native", lambda bind: None)
    data, rows = regressor(grown(7, 9)).SerializeToString(), np.ones((2, FEATURES), np.float32)

    assert forest_of(onnx.load_model_from_string(data), FEATURES) is None
    assert Model(data, signature()).score(rows).score.tolist() == of_runtime(data, rows)[:, 0].astype(float).tolist()
