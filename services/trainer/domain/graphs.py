"""Fitted pipelines as ONNX graphs by the contract of shared/runtime.py; equal pipelines give equal bytes."""

import warnings

import numpy as np
from onnx import ModelProto
from skl2onnx import to_onnx
from sklearn.pipeline import Pipeline

from schemas.events.parts import Signature

_OPSETS = {"": 18, "ai.onnx.ml": 3}  # pinned: newer converters must not change the bytes


def graph_of(pipeline: Pipeline, signature: Signature) -> bytes:
    """ONNX bytes: input float32 (n, features); output `probabilities` (n, classes), or the value (n, 1)."""
    sample = np.zeros((1, len(signature.features)), dtype=np.float32)
    options = {id(pipeline): {"zipmap": False}} if signature.classes else None
    with warnings.catch_warnings():  # skl2onnx 1.20 writes bools where protobuf 7 will want ints
        warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
        graph = to_onnx(pipeline, sample, options=options, target_opset=_OPSETS, name="version")
    if signature.classes:
        _only_probabilities(graph)
    graph.producer_name, graph.producer_version, graph.doc_string = "modelbus", "", ""
    opsets = sorted(graph.opset_import, key=lambda opset: opset.domain)  # the converter's come in the order of a set
    del graph.opset_import[:]
    graph.opset_import.extend(opsets)
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def _only_probabilities(graph: ModelProto) -> None:
    """The runtime drops what leads to no output: answering with a label costs a fifth of a small model's time."""
    kept = [output for output in graph.graph.output if output.name == "probabilities"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
