"""A version as it is served: ONNX Runtime on bytes, one thread, no external data. The same code validates and serves.

Forests of small trees are scored by trees.c instead (`shared.trees`), to the same bits.

Contract of the graph: one input, float32 (n, features); classification has an output `probabilities`, float32
(n, classes); regression has one output, float32 (n, 1).
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from schemas.events.parts import Signature
from shared.errors import Refusal
from shared.matrix import Inputs
from shared.trees import Forest, forest_of

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# arithmetic on what comes in: no loops, no chance, no shapes that the data name
_LISTED = """
    Abs Add And ArgMax ArgMin Cast CastLike Ceil Clip Concat Constant Div Elu Equal Erf Exp Flatten Floor Gather
    GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid Identity IsInf IsNaN LeakyRelu Less LessOrEqual
    Log LogSoftmax MatMul Max Mean Min Mod Mul Neg Not Or PRelu Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Slice
    Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where Xor
    ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder LinearClassifier
    LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor
"""
_OPERATORS: Final = frozenset(_LISTED.split())
# the runtime's errors have no parent of their own
_RUNTIME_ERRORS: Final = tuple(
    each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)
)
_FIRST_ROWS: Final = (1, 256)
_ORT_FORMAT: Final = b"ORTM"  # the runtime's own format, at its fifth byte: it would be read past our look
log = logging.getLogger(__name__)


class UnsafeModel(Refusal):
    """The bytes are not a model that may be loaded."""


@dataclass(frozen=True)
class Scores:
    """`score` (n,): p(true), p(answered class) or the value; `probabilities` (n, classes) or None for regression."""

    score: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None


class Model:
    """A loaded version."""

    def __init__(self, data: bytes, signature: Signature) -> None:
        """Load from bytes, and warm up: answer a row of zeros, and many.

        Raises:
            UnsafeModel: not ONNX, external data, operators outside the standard domains, another input or output, or
                nothing that the runtime takes.
        """
        graph = check_safe(data)
        self._classes = signature.classes
        self._has_refused = False
        with _refusing():
            self._session = _session_of(data)
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise UnsafeModel(f"inputs: expected one float32 tensor, got {[(i.name, i.type) for i in inputs]}")
        if signature.classes and "probabilities" not in outputs:
            raise UnsafeModel(f"outputs: expected `probabilities`, got {outputs}")
        self._input = inputs[0].name
        self._output = "probabilities" if signature.classes else outputs[0]
        with _refusing():
            for rows in _FIRST_ROWS:
                self._scores(self._run(np.zeros((rows, len(signature.features)), dtype=np.float32)), rows)
        self._forest: Forest | None = None
        self._goes_on = True  # a graph, after the forest
        if found := forest_of(graph, len(signature.features)):
            self._use_if_same(*found)

    def _use_if_same(self, forest: Forest, rest: onnx.ModelProto | None) -> None:
        """Whether it scores a sample as the graph alone, bit by bit; few rows, too, which may be summed otherwise."""
        whole = self._session, self._input
        try:
            sample = forest.sample()
            some = [sample, sample[:1], sample[:9]]
            expected = [self._answers(rows).tobytes() for rows in some]
            self._forest, self._goes_on = forest, rest is not None
            if rest is not None:
                self._session, self._input = _session_of(rest.SerializeToString()), rest.graph.input[0].name
            if [self._answers(rows).tobytes() for rows in some] != expected:
                raise ValueError("trees.c says other scores")
        except Exception as error:  # whatever it is: the graph alone has been warmed up, and goes on
            log.warning("scored by ONNX Runtime alone: %r", error)
            self._forest, (self._session, self._input) = None, whole
        self._has_refused = False  # nothing that came

    @property
    def is_forest(self) -> bool:
        """Whether trees.c scores it."""
        return self._forest is not None

    def score(self, inputs: Inputs) -> Scores:
        """Score a batch, float32 (n, features); NaN where the runtime refuses a row, as of a new category."""
        return self._scores(self._answers(inputs), len(inputs))

    def _answers(self, inputs: Inputs) -> Inputs:
        if self._forest is None:
            return self._rows(inputs)
        scores = self._forest.score(inputs)
        return self._rows(scores) if self._goes_on else scores

    def _scores(self, answers: Inputs, rows: int) -> Scores:
        raw = answers.astype(np.float64)
        if not self._classes:
            return Scores(score=raw.reshape(rows), probabilities=None)
        return Scores(score=raw[:, 1] if len(self._classes) == 2 else raw.max(axis=1), probabilities=raw)

    def _run(self, inputs: Inputs) -> Inputs:
        found: Inputs = self._session.run([self._output], {self._input: inputs})[0]
        return found

    def _rows(self, inputs: Inputs) -> Inputs:
        """By halves where the runtime refuses: it says that it does, and not which row it means."""
        try:
            return self._run(inputs)
        except _RUNTIME_ERRORS as error:
            if len(inputs) > 1:
                half = len(inputs) // 2
                return np.concatenate([self._rows(inputs[:half]), self._rows(inputs[half:])])
            if not self._has_refused:
                log.warning("the first row that the runtime refuses: %s", error)
                self._has_refused = True
            return np.full((len(inputs), max(1, len(self._classes))), np.nan, dtype=np.float32)


def _session_of(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised: it need not be printed too
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@contextmanager
def _refusing() -> Iterator[None]:
    """What the runtime does not take, or answers in another shape, is no model: the same bytes fail again."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise UnsafeModel(f"ONNX Runtime refuses it: {error}") from error


def check_safe(data: bytes) -> onnx.ModelProto:
    """Look before loading; returns what is seen.

    Raises:
        UnsafeModel: not ONNX, data outside the file, or operators that are not on the list.
    """
    if data[4:8] == _ORT_FORMAT:
        raise UnsafeModel("expected ONNX bytes, got the runtime's own format")
    try:
        graph = onnx.load_model_from_string(data)
    except Exception as error:  # the parser raises whatever protobuf does
        raise UnsafeModel(f"expected ONNX bytes: {error}") from error
    if not graph.HasField("graph"):
        raise UnsafeModel("expected ONNX bytes, got none of a graph")
    if any(_outside(tensor) for tensor in _tensors(graph.graph)):
        raise UnsafeModel("expected all tensors inside the file, got external data")
    if other := {domain.domain for domain in graph.opset_import} - _DOMAINS:
        raise UnsafeModel(f"expected standard operators only, got domains {sorted(other)}")
    if graph.functions or graph.training_info:
        raise UnsafeModel("expected no model-local functions and no training graphs")
    if odd := sorted({node.op_type for node in graph.graph.node if not _is_listed(node)}):
        raise UnsafeModel(f"expected operators of the list, got {odd}")
    return graph


def _is_listed(node: onnx.NodeProto) -> bool:
    plain = all(not attribute.HasField("g") and not attribute.graphs for attribute in node.attribute)
    return node.domain in _DOMAINS and node.op_type in _OPERATORS and plain


def _outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data)


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    found = [*graph.initializer, *_dense(graph.sparse_initializer)]
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            found += _dense([attribute.sparse_tensor, *attribute.sparse_tensors])
            for inner in (attribute.g, *attribute.graphs):
                found += _tensors(inner)
    return found


def _dense(sparse: Iterable[onnx.SparseTensorProto]) -> list[onnx.TensorProto]:
    return [part for each in sparse for part in (each.values, each.indices)]
