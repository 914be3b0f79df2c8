"""A version as it is served: ONNX Runtime on bytes, one thread, no external data. The same code validates and serves.

Contract of the graph: one input, float32 (n, features); classification has an output `probabilities`, float32
(n, classes); regression has one output, float32 (n, 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from schemas.events.parts import Signature
from shared.errors import Refusal
from shared.matrix import Inputs

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}


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
        """Load from bytes.

        Raises:
            UnsafeModel: not ONNX, external data, operators outside the standard domains, or another input or output.
        """
        check_safe(data)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._classes = signature.classes
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise UnsafeModel(f"inputs: expected one float32 tensor, got {[(i.name, i.type) for i in inputs]}")
        if signature.classes and "probabilities" not in outputs:
            raise UnsafeModel(f"outputs: expected `probabilities`, got {outputs}")
        self._input = inputs[0].name
        self._output = "probabilities" if signature.classes else outputs[0]

    def score(self, inputs: Inputs) -> Scores:
        """Score a batch, float32 (n, features)."""
        raw = self._session.run([self._output], {self._input: inputs})[0].astype(np.float64)
        if not self._classes:
            return Scores(score=raw.reshape(len(inputs)), probabilities=None)
        return Scores(score=raw[:, 1] if len(self._classes) == 2 else raw.max(axis=1), probabilities=raw)


def check_safe(data: bytes) -> None:
    """Look before loading.

    Raises:
        UnsafeModel: not ONNX, external data, or operators outside the standard domains.
    """
    try:
        graph = onnx.load_model_from_string(data)
    except Exception as error:  # the parser raises whatever protobuf does
        raise UnsafeModel(f"expected ONNX bytes: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(graph.graph)):
        raise UnsafeModel("expected all tensors inside the file, got external data")
    if other := {domain.domain for domain in graph.opset_import} - _DOMAINS:
        raise UnsafeModel(f"expected standard operators only, got domains {sorted(other)}")
    if graph.functions:
        raise UnsafeModel("expected no model-local functions")


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
