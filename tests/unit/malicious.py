"""Files that somebody might slip in as a model: each by name, as bytes. Whoever runs one writes the marker."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

Json = dict[str, Any]


class Runs:
    """Pickled, it writes the marker when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])]
    answer = helper.make_node("Concat", ["x", "x"], ["probabilities"], axis=1)
    model = helper.make_model(helper.make_graph([*nodes, answer], "g", inputs, outputs))
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])
    model.ir_version = 9
    return model


def outside(location: str = "/etc/passwd") -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def _initializer(tensor: TensorProto) -> bytes:
    model = graph()
    model.graph.initializer.append(tensor)
    return model.SerializeToString()


def _not_said_to_be_outside() -> bytes:
    tensor = outside()
    tensor.data_location = TensorProto.DEFAULT
    return _initializer(tensor)


def _sparse() -> bytes:
    model = graph()
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=outside(), dims=[4]))
    return model.SerializeToString()


def _constant() -> bytes:
    return graph(helper.make_node("Constant", [], ["c"], value=outside())).SerializeToString()


def _branch(node: str, **attributes: Any) -> bytes:
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=outside())], "inner", [], [])
    return graph(helper.make_node(node, ["x"], ["y"], then_branch=inner, **attributes)).SerializeToString()


def _for_ever() -> bytes:
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    round_ = helper.make_tensor_value_info("round", TensorProto.INT64, [])
    said = helper.make_tensor_value_info("said", TensorProto.BOOL, [])
    body = helper.make_graph([helper.make_node("Identity", ["go_on"], ["said"])], "body", [round_, go_on], [said])
    true = helper.make_node("Constant", [], ["true"], value=helper.make_tensor("t", TensorProto.BOOL, [], [True]))
    return graph(true, helper.make_node("Loop", ["", "true"], [], body=body)).SerializeToString()


def _fills_memory() -> bytes:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [2**20, 2**20])
    constant = helper.make_node("Constant", [], ["shape"], value=shape)
    return graph(constant, helper.make_node("ConstantOfShape", ["shape"], ["zeros"])).SerializeToString()


def _chance() -> bytes:
    return graph(helper.make_node("RandomNormalLike", ["x"], ["luck"])).SerializeToString()


def _stranger(domain: str, operator: str) -> bytes:
    model = graph(helper.make_node(operator, ["x"], ["y"], domain=domain, ep_cache_context="/tmp/evil.so"))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()


def _not_imported() -> bytes:
    return graph(helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")).SerializeToString()


def _shadowed() -> bytes:
    model = graph()
    body = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Concat", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    return model.SerializeToString()


def _trains() -> bytes:
    model = graph()
    model.training_info.add().algorithm.initializer.append(outside())
    return model.SerializeToString()


def _runtime_format() -> bytes:
    """A producer's name that puts the mark of the runtime's own format where it looks for it; ONNX's parser accepts."""
    model = graph().SerializeToString()
    return b"\x12\x08..ORTM.." + model


def _deep() -> bytes:
    inner = helper.make_graph([], "g", [], [])
    for _ in range(30):
        inner = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "g", [], [])
    model = graph()
    model.graph.node.extend(inner.node)
    return model.SerializeToString()


def onnx_files(marker: Path) -> Mapping[str, bytes]:
    """What claims to be ONNX."""
    return {
        "a file of the machine as a tensor": _initializer(outside()),
        "a file beside it as a tensor": _initializer(outside("../../secrets.bin")),
        "an address in memory as a tensor": _initializer(outside("*/_ORT_MEM_ADDR_/*")),
        "a tensor outside that does not say so": _not_said_to_be_outside(),
        "a sparse tensor outside": _sparse(),
        "a constant outside": _constant(),
        "a branch with a tensor outside": _branch("If"),
        "a standard operator with a graph inside": _branch("Identity"),
        "a loop without an end": _for_ever(),
        "a constant of four terabytes": _fills_memory(),
        "answers by chance": _chance(),
        "an operator of strangers": _stranger("com.evil", "Run"),
        "a compiled context": _stranger("com.microsoft", "EPContext"),
        "a compiled context whose domain is not imported": _not_imported(),
        "a standard operator defined anew": _shadowed(),
        "a training graph with a tensor outside": _trains(),
        "the runtime's own format inside ONNX": _runtime_format(),
        "graphs in graphs": _deep(),
        "a pickle": pickle.dumps(Runs(marker)),
        "a zip": skops.io.dumps({}),
        "half a file": graph().SerializeToString()[:40],
        "nothing": b"",
    }


def _written(schema: Json, **files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps(schema | {"protocol": 2, "_skops_version": "0.13.0"}))
        for name, data in files.items():
            archive.writestr(name.replace("_npy", ".npy"), data)
    return held.getvalue()


def _node(module: str, name: str, loader: str, **content: Any) -> Json:
    return {"__module__": module, "__class__": name, "__loader__": loader, "__id__": id(content), **content}


def _text(value: str) -> Json:
    return _node("builtins", "str", "JsonNode", content=json.dumps(value), is_json=True)


def _tuple(*parts: Json) -> Json:
    return _node("builtins", "tuple", "TupleNode", content=list(parts))


def _reduced(module: str, name: str, command: str) -> Json:
    """A class of scikit-learn whose constructor is somebody else's."""
    nothing = _node(
        "builtins", "dict", "DictNode", content={}, key_types=_node("builtins", "list", "ListNode", content=[])
    )
    return _node(module, name, "TreeNode", content=nothing, __reduce__={"args": _tuple(_text(command))})


def _pickled_array(marker: Path) -> bytes:
    held = io.BytesIO()
    np.save(held, np.array([Runs(marker)], dtype=object), allow_pickle=True)
    return held.getvalue()


@cache
def _bomb() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", bytes(65 * 2**20))
    return held.getvalue()


def _nested() -> bytes:
    text = '{"a":' * 20_000 + "1" + "}" * 20_000
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", text)
    return held.getvalue()


def _joblib(marker: Path) -> bytes:
    held = io.BytesIO()
    joblib.dump(Runs(marker), held)
    return held.getvalue()


def skops_files(marker: Path) -> Mapping[str, bytes]:
    """What claims to be a pipeline of scikit-learn."""
    touch = f"touch {marker}"
    system = _node("posix", "system", "FunctionNode", content={"module_path": "posix", "function": "system"})
    nothing = _node(
        "builtins", "dict", "DictNode", content={}, key_types=_node("builtins", "list", "ListNode", content=[])
    )
    array = _node("numpy", "ndarray", "NdArrayNode", type="numpy", file="a.npy")
    method = _node("sklearn.linear_model", "LogisticRegression", "MethodNode", content={"func": "fit", "obj": system})
    partly = {"func": system, "args": _tuple(_text(touch)), "kwds": nothing, "namespace": nothing}
    return {
        "a pickle": pickle.dumps(Runs(marker)),
        "a joblib file": _joblib(marker),
        "a step that runs a command": skops.io.dumps(FunctionTransformer(func=os.system, kw_args={"command": touch})),
        "a command, half called": skops.io.dumps(FunctionTransformer(func=partial(os.system, touch))),
        "a call of any method": skops.io.dumps(FunctionTransformer(func=methodcaller("system", touch))),
        "a bound method": skops.io.dumps(FunctionTransformer(func=Runs(marker).__reduce__)),
        "an object of ours": skops.io.dumps(Runs(marker)),
        "a function": _written(system),
        "a command, half called, by hand": _written(_node("functools", "partial", "PartialNode", content=partly)),
        "a method of another object than it says": _written(method),
        "an operator that is none": _written(_node("os", "system", "OperatorFuncNode", attrs=_tuple(_text(touch)))),
        "a tree made by a command": _written(_reduced("posix", "system", touch)),
        "a type that is a module's side effect": _written(_node("antigravity", "geohash", "TypeNode")),
        "a loader that is not there": _written(_node("posix", "system", "EvalNode", content=touch)),
        "a pickle inside an array": _written(array, a_npy=_pickled_array(marker)),
        "an array that is not there": _written(array),
        "much in little": _bomb(),
        "brackets in brackets": _nested(),
        "no estimator": skops.io.dumps({"a": 1}),
        "half a file": skops.io.dumps(LogisticRegression())[:200],
        "nothing": b"",
    }
