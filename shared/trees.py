"""Forests of small trees, scored by trees.c at a few times the speed of ONNX Runtime, which scores all else.

A graph has such a forest when it begins with a tree ensemble and nothing else reads its input, as those of
`hist_gradient_boosting`: trees of up to 32 leaves that ask for `at most`, and one sum a row, as it is, or as margins or
probabilities of two classes. What follows in the graph, such as a calibration, is left to the runtime. The scores are
those that the runtime would give for all of it, bit by bit: whoever loads a model compares them (`shared.runtime`), and
goes on with the runtime alone where they are not. So this is but speed.
"""

import ctypes
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from shared.matrix import Inputs
from shared.native import Native, check_layout, native, place_of

_LEAVES = 32
_MOST_NODES = 2 * _LEAVES - 1
_KINDS = {"TreeEnsembleClassifier": "class", "TreeEnsembleRegressor": "target"}
_SUM, _MARGINS, _PROBABILITIES = range(3)  # what a row's scores are
_SAMPLE_ROWS = 1000


class _Arrays(NamedTuple):
    """The forest's nodes and leaves, as trees.c describes them."""

    lefts: NDArray[np.int64]
    ends: NDArray[np.int64]
    columns: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    kept: NDArray[np.uint32]
    weights: NDArray[np.float32]


class _Struct(ctypes.Structure):
    """`struct forest` of trees.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("trees", "features")),
        *((name, ctypes.c_void_p) for name in _Arrays._fields),
        ("base", ctypes.c_float),
    ]


class _Library:
    def __init__(self, library: Native) -> None:
        self.score = library.freeing.modelbus_forest
        self.score.argtypes = [ctypes.POINTER(_Struct), ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
        self.score.restype = ctypes.c_int
        check_layout(library.keeping.modelbus_forest_bytes, _Struct)


class Forest:
    """A loaded forest; `score` may be called by several threads at once."""

    def __init__(self, library: _Library, arrays: _Arrays, *, features: int, base: float, transform: int) -> None:
        self._library, self._arrays, self._features, self._transform = library, arrays, features, transform
        pointers = (array.ctypes.data for array in arrays)
        self._struct = _Struct(len(arrays.ends), features, *pointers, base)

    def score(self, inputs: Inputs) -> Inputs:
        """Inputs (n, features) → sums (n, 1), or margins or probabilities (n, 2).

        Raises:
            MemoryError: for the block of rows that is looked at.
        """
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if inputs.ndim != 2 or inputs.shape[1] != self._features:
            raise ValueError(f"inputs: expected (n, {self._features}), got {inputs.shape}")
        scores = np.empty((len(inputs), 1 if self._transform == _SUM else 2), np.float32)
        if self._library.score(self._struct, inputs.ctypes.data, len(inputs), self._transform, place_of(scores)) != 0:
            raise MemoryError
        return scores

    def sample(self) -> Inputs:
        """Rows that decide many nodes either way: thresholds and what is next to them, and nothing, infinity, zero."""
        random = np.random.default_rng(0)
        rows = np.zeros((_SAMPLE_ROWS, self._features), np.float32)
        for column in range(self._features):
            mine = self._arrays.thresholds[self._arrays.columns == column]
            odd = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
            with np.errstate(over="ignore"):
                near = [np.nextafter(mine, np.float32(towards)) for towards in (-np.inf, np.inf)]
            rows[:, column] = random.choice(
                np.concatenate([mine, *near, random.choice(odd, len(mine) // 8 + 1)]), len(rows)
            )
        return rows


def forest_of(model: onnx.ModelProto, features: int) -> tuple[Forest, onnx.ModelProto | None] | None:
    """The forest that a graph begins with, and the graph that goes on from its scores, if there is more.

    None where it begins with something else, or trees.c has not been compiled.
    """
    library, nodes = native(_Library), model.graph.node
    if library is None or not nodes or nodes[0].op_type not in _KINDS:
        return None
    kind = _KINDS[nodes[0].op_type]
    try:
        rest, values = _rest(model), _values(nodes[0])
        transform, arrays = _transform(values, kind), _arrays(values, kind, features)
    except (_Other, KeyError, IndexError, ValueError):  # an attribute is missing, too short, or of another length
        return None
    return Forest(library, arrays, features=features, base=values["base_values"][0], transform=transform), rest


class _Other(Exception):
    """Something else than trees.c knows."""


def _values(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes, unless its trees are large ones: those are not looked at."""
    trees = next((each.ints for each in node.attribute if each.name == "nodes_treeids"), ())
    if not trees or np.unique(np.array(trees, np.int64), return_counts=True)[1].max() > _MOST_NODES:
        raise _Other
    if any(each.name.endswith("_as_tensor") for each in node.attribute):
        raise _Other
    return {"base_values": [0.0]} | {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _transform(values: Mapping[str, Any], kind: str) -> int:
    """What becomes of a row's one sum; raises _Other where it has several."""
    if values.get("aggregate_function", b"SUM") != b"SUM" or len(values["base_values"]) != 1:
        raise _Other
    if len(set(values[f"{kind}_ids"])) != 1:
        raise _Other
    transform = values.get("post_transform", b"NONE")
    if kind == "target":
        found = _SUM if transform == b"NONE" and values.get("n_targets", 1) == 1 else None
    else:
        classes = values.get("classlabels_int64s") or values.get("classlabels_strings") or ()
        found = {b"NONE": _MARGINS, b"LOGISTIC": _PROBABILITIES}.get(transform) if len(classes) == 2 else None
    if found is None:
        raise _Other
    if found == _MARGINS and min(values["class_weights"]) >= 0:  # the runtime makes something else of those
        raise _Other
    return found


def _rest(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph after its first node, from whose scores it goes on; None where there is nothing more.

    Raises:
        _Other: the first does not read the graph's input alone, or what follows also does, or the answered labels.
    """
    graph = model.graph
    first, *others = graph.node
    *labels, scores = first.output
    if list(first.input) != [put.name for put in graph.input]:
        raise _Other
    outputs = {output.name for output in graph.output}
    if outputs == {scores} and not others:
        return None
    if {*first.input, *labels} & {name for node in others for name in node.input} or outputs & {scores, *labels}:
        raise _Other
    put = onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, [None, None])
    rest = onnx.helper.make_graph(others, graph.name, [put], graph.output, initializer=graph.initializer)
    return onnx.helper.make_model(rest, opset_imports=model.opset_import, ir_version=model.ir_version)


class _Node(NamedTuple):
    column: int
    threshold: float
    kept: int  # leaves
    missing_goes_left: bool


def _arrays(values: Mapping[str, Any], kind: str, features: int) -> _Arrays:
    """Raises _Other."""
    trees: dict[int, dict[int, int]] = defaultdict(dict)  # tree → id → where its node is listed
    for place, (tree, name) in enumerate(zip(values["nodes_treeids"], values["nodes_nodeids"], strict=True)):
        if name in trees[tree] or tree != next(reversed(trees)):
            raise _Other
        trees[tree][name] = place
    weights: dict[tuple[int, int], float] = {}
    named = zip(*(values[f"{kind}_{name}"] for name in ("treeids", "nodeids", "weights")), strict=True)
    for tree, name, weight in named:
        if (tree, name) in weights:
            raise _Other
        weights[tree, name] = weight
    walks = [_Walk(values, tree, places, weights) for tree, places in trees.items()]
    nodes = [node for walk in walks for node in walk.nodes]
    if any(not 0 <= node.column < features for node in nodes):
        raise _Other
    ends = np.cumsum([len(walk.nodes) for walk in walks], dtype=np.int64)
    return _Arrays(
        lefts=ends - np.array([sum(node.missing_goes_left for node in walk.nodes) for walk in walks], np.int64),
        ends=ends,
        columns=np.array([node.column for node in nodes], np.int32),
        thresholds=np.array([node.threshold for node in nodes], np.float32),
        kept=np.array([node.kept for node in nodes], np.uint32),
        weights=np.array([[*walk.leaves, *[0.0] * (_LEAVES - len(walk.leaves))] for walk in walks], np.float32),
    )


class _Walk:
    """A tree's nodes, those that send what is missing to the right first, and its leaves' weights from the left."""

    def __init__(
        self, values: Mapping[str, Any], tree: int, places: Mapping[int, int], weights: Mapping[tuple[int, int], float]
    ) -> None:
        self._values, self._tree, self._places, self._weights = values, tree, places, weights
        self._missing: Sequence[int] | None = values.get("nodes_missing_value_tracks_true")
        self._seen = set[int]()
        self.leaves = list[float]()
        nodes = list[_Node]()
        self._visit(next(iter(places)), nodes)
        if len(self._seen) != len(places) or any(math.isnan(node.threshold) for node in nodes):
            raise _Other
        self.nodes = sorted(nodes, key=lambda node: node.missing_goes_left)

    def _visit(self, name: int, nodes: list[_Node]) -> int:
        """The leaves below a node, a bit each."""
        place = self._places.get(name)
        if place is None or name in self._seen:
            raise _Other
        self._seen.add(name)
        mode = self._values["nodes_modes"][place]
        if mode == b"LEAF":
            self.leaves.append(self._weights[self._tree, name])
            if len(self.leaves) > _LEAVES:
                raise _Other
            return 1 << len(self.leaves) - 1
        if mode != b"BRANCH_LEQ":
            raise _Other
        left = self._visit(self._values["nodes_truenodeids"][place], nodes)
        right = self._visit(self._values["nodes_falsenodeids"][place], nodes)
        column, threshold = self._values["nodes_featureids"][place], self._values["nodes_values"][place]
        missing_goes_left = self._missing is not None and self._missing[place] == 1
        nodes.append(_Node(column, threshold, 2**_LEAVES - 1 - left, missing_goes_left))
        return left | right
