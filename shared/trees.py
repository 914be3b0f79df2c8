"""Forests of small trees, scored by trees.c at a few times the speed of ONNX Runtime, which scores all other models.

A model is such a forest when its graph is nothing but one tree ensemble, as `hist_gradient_boosting` gives: trees of up
to 32 leaves that ask for `at most`, and one sum a row, as it is or as a probability of two. Its scores are those of the
runtime, bit by bit: whoever loads a model compares them (`shared.runtime`), and goes on with the runtime where they are
not. So this is but speed.
"""

import ctypes
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from shared.matrix import Inputs
from shared.native import Native, check_layout, native

_LEAVES = 32
_KINDS = {"TreeEnsembleClassifier": "class", "TreeEnsembleRegressor": "target"}
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

    def __init__(self, library: _Library, arrays: _Arrays, *, features: int, base: float, is_binary: bool) -> None:
        self._library, self._arrays, self._features, self._is_binary = library, arrays, features, is_binary
        pointers = (array.ctypes.data for array in arrays)
        self._struct = _Struct(len(arrays.ends), features, *pointers, base)

    def score(self, inputs: Inputs) -> Inputs:
        """Inputs (n, features) → probabilities (n, 2), or values (n, 1).

        Raises:
            MemoryError: for the block of rows that is looked at.
        """
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        if inputs.ndim != 2 or inputs.shape[1] != self._features:
            raise ValueError(f"inputs: expected (n, {self._features}), got {inputs.shape}")
        scores = np.empty((len(inputs), 2 if self._is_binary else 1), np.float32)
        ways = inputs.ctypes.data, len(inputs), self._is_binary, scores.ctypes.data
        if self._library.score(self._struct, *ways) != 0:
            raise MemoryError
        return scores

    def sample(self) -> Inputs:
        """Rows that decide many nodes either way: thresholds and what is next to them, and nothing, infinity, zero."""
        random = np.random.default_rng(0)
        rows = np.zeros((_SAMPLE_ROWS, self._features), np.float32)
        for column in range(self._features):
            mine = self._arrays.thresholds[self._arrays.columns == column]
            odd = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
            near = [np.nextafter(mine, np.float32(towards)) for towards in (-np.inf, np.inf)]
            rows[:, column] = random.choice(
                np.concatenate([mine, *near, random.choice(odd, len(mine) // 8 + 1)]), len(rows)
            )
        return rows


def forest_of(graph: onnx.GraphProto, features: int) -> Forest | None:
    """The forest that a graph is; None where it is something else, or trees.c has not been compiled."""
    library = native(_Library)
    if library is None or len(graph.node) != 1 or graph.node[0].op_type not in _KINDS:
        return None
    node = graph.node[0]
    values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    kind = _KINDS[node.op_type]
    base = values.get("base_values", [0.0])
    is_binary = kind == "class"
    usual = values.get("post_transform", b"NONE") == (b"LOGISTIC" if is_binary else b"NONE")
    usual = usual and values.get("aggregate_function", b"SUM") == b"SUM" and len(base) == 1
    classes = values.get("classlabels_int64s") or values.get("classlabels_strings") or ()
    outputs = len(classes) == 2 if is_binary else values.get("n_targets", 1) == 1
    if not usual or not outputs or len(set(values.get(f"{kind}_ids", ()))) != 1:
        return None
    try:
        arrays = _arrays(values, kind, features)
    except _OtherTrees:
        return None
    return Forest(library, arrays, features=features, base=base[0], is_binary=is_binary)


class _OtherTrees(Exception):
    """Trees that trees.c does not know."""


class _Node(NamedTuple):
    column: int
    threshold: float
    kept: int  # leaves
    missing_goes_left: bool


def _arrays(values: Mapping[str, Any], kind: str, features: int) -> _Arrays:
    """Raises _OtherTrees."""
    trees: dict[int, dict[int, int]] = defaultdict(dict)  # tree → id → where its node is listed
    for place, (tree, name) in enumerate(zip(values["nodes_treeids"], values["nodes_nodeids"], strict=True)):
        trees[tree][name] = place
    weights: dict[tuple[int, int], float] = {}
    named = zip(*(values[f"{kind}_{name}"] for name in ("treeids", "nodeids", "weights")), strict=True)
    for tree, name, weight in named:
        if (tree, name) in weights:
            raise _OtherTrees
        weights[tree, name] = weight
    walks = [_Walk(values, tree, places, weights) for tree, places in trees.items()]
    nodes = [node for walk in walks for node in walk.nodes]
    if any(not 0 <= node.column < features for node in nodes):
        raise _OtherTrees
    ends = np.cumsum([len(walk.nodes) for walk in walks])
    return _Arrays(
        lefts=ends - [sum(node.missing_goes_left for node in walk.nodes) for walk in walks],
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
        self._missing: Sequence[int] = values.get("nodes_missing_value_tracks_true") or [0] * len(values["nodes_modes"])
        self._seen = set[int]()
        self.leaves = list[float]()
        nodes = list[_Node]()
        self._visit(next(iter(places)), nodes)
        self.nodes = sorted(nodes, key=lambda node: node.missing_goes_left)

    def _visit(self, name: int, nodes: list[_Node]) -> int:
        """The leaves below a node, a bit each."""
        place = self._places.get(name)
        if place is None or name in self._seen or len(self._seen) >= 2 * _LEAVES - 1:
            raise _OtherTrees
        self._seen.add(name)
        mode = self._values["nodes_modes"][place]
        if mode == b"LEAF":
            self.leaves.append(self._weights.get((self._tree, name), 0.0))
            if len(self.leaves) > _LEAVES:
                raise _OtherTrees
            return 1 << len(self.leaves) - 1
        if mode != b"BRANCH_LEQ":
            raise _OtherTrees
        left = self._visit(self._values["nodes_truenodeids"][place], nodes)
        right = self._visit(self._values["nodes_falsenodeids"][place], nodes)
        column, threshold = self._values["nodes_featureids"][place], self._values["nodes_values"][place]
        nodes.append(_Node(column, threshold, 2**_LEAVES - 1 - left, bool(self._missing[place])))
        return left | right
