"""What may be loaded as a model, and what may not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from schemas.events.parts import Signature, SignatureFeature
from shared.runtime import Model, UnsafeModel, check_safe

SIGNATURE = Signature(features=(SignatureFeature(name="x", type="float"),), classes=("false", "true"))


def graph(*nodes: onnx.NodeProto, output: str = "probabilities", domain: str = "") -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, 2])]
    made = helper.make_graph(list(nodes), "g", inputs, outputs)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    model.ir_version = 9
    return model


def good() -> onnx.ModelProto:
    return graph(helper.make_node("Concat", ["x", "x"], ["probabilities"], axis=1))


def test_a_plain_graph_is_loaded_and_scores() -> None:
    scores = Model(good().SerializeToString(), SIGNATURE).score(np.array([[0.25]], dtype=np.float32))

    assert scores.score.tolist() == [0.25]


def test_what_is_not_onnx_or_has_another_output_is_refused() -> None:
    with pytest.raises(UnsafeModel, match="ONNX"):
        Model(b"\x80\x04pickle", SIGNATURE)
    other = graph(helper.make_node("Concat", ["x", "x"], ["other"], axis=1), output="other")
    with pytest.raises(UnsafeModel, match="probabilities"):
        Model(other.SerializeToString(), SIGNATURE)


def test_operators_of_strangers_are_refused() -> None:
    model = graph(helper.make_node("Concat", ["x", "x"], ["probabilities"], axis=1), domain="com.evil")

    with pytest.raises(UnsafeModel, match=r"com\.evil"):
        check_safe(model.SerializeToString())


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_external_data_is_refused_wherever_it_hides(sparse: bool, nested: bool) -> None:
    hidden = TensorProto(data_location=TensorProto.EXTERNAL, data_type=TensorProto.FLOAT, name="w")
    where = onnx.GraphProto() if nested else good().graph
    if sparse:
        where.sparse_initializer.append(onnx.SparseTensorProto(values=hidden))
    else:
        where.initializer.append(hidden)
    model = good()
    if nested:
        model.graph.node[0].attribute.append(helper.make_attribute("body", where))
    else:
        model.graph.CopyFrom(where)

    with pytest.raises(UnsafeModel, match="external data"):
        check_safe(model.SerializeToString())


def choosy(*categories: int) -> bytes:
    """One-hot of two categories as probabilities; refuses a batch in which any row has another."""
    return graph(
        helper.make_node("OneHotEncoder", ["x"], ["hot"], domain="ai.onnx.ml", cats_int64s=categories, zeros=0),
        helper.make_node("Flatten", ["hot"], ["probabilities"], axis=1),
        domain="ai.onnx.ml",
    ).SerializeToString()


def test_a_row_that_the_runtime_refuses_has_no_score_and_all_others_have() -> None:
    rows = np.array([[0], [1], [np.nan], [7], [1], [0], [1]], dtype=np.float32)

    scores = Model(choosy(0, 1), SIGNATURE).score(rows)

    assert np.array_equal(scores.score, [0, 1, np.nan, np.nan, 1, 0, 1], equal_nan=True)
    assert scores.probabilities is not None
    assert scores.probabilities.shape == (7, 2)


def test_what_does_not_answer_a_row_of_zeros_is_refused() -> None:
    with pytest.raises(UnsafeModel, match="Unknown Category"):
        Model(choosy(1, 2), SIGNATURE)
    two = SIGNATURE.model_copy(update={"features": SIGNATURE.features * 2})
    with pytest.raises(UnsafeModel, match="invalid dimensions"):
        Model(good().SerializeToString(), two)


def test_what_answers_one_row_and_not_many_or_in_another_shape_is_refused() -> None:
    one = good()
    one.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(UnsafeModel, match="Got: 256 Expected: 1"):
        Model(one.SerializeToString(), SIGNATURE)
    flat = graph(helper.make_node("ReduceMax", ["x"], ["probabilities"], axes=[1], keepdims=0))
    with pytest.raises(UnsafeModel, match="ONNX Runtime refuses it"):
        Model(flat.SerializeToString(), SIGNATURE)
