"""New names and axes for published graphs."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.vision.models.signature import read_model, redeclare
from shared.inference.artifact import Tensor

IN, OUT = Tensor("image", "FP32", (-1, 2)), Tensor("sum", "FP32", (-1, 2))


@pytest.fixture
def published() -> bytes:
    """Two rows of two, a weight listed among the inputs, a weight that nothing reads, metadata."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["input.1", "w"], ["537"], doc_string="somewhere"),
            helper.make_node("Neg", ["537"], ["538"]),
        ],
        "published",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("input.1", "w")],
        [helper.make_tensor_value_info("538", TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.ones((1, 2), np.float32), name) for name in ("w", "unread")],
    )
    graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    return model.SerializeToString()


def test_names_axes_and_weights(published: bytes) -> None:
    content = redeclare(read_model(published, "m"), {"input.1": IN}, {"537": OUT})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [("image", ["batch", 2])]
    assert [(item.name, item.shape) for item in session.get_outputs()] == [("sum", ["batch", 2])]
    image = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(session.run(None, {"image": image})[0], image + 1)
    model = onnx.load_model_from_string(content)
    assert [item.name for item in model.graph.initializer] == ["w"]
    assert not model.metadata_props
    assert b"somewhere" not in content


def test_other_graphs_are_refused(published: bytes) -> None:
    with pytest.raises(ValueError, match=r"inputs are \['input\.1'\], expected \['x'\]"):
        redeclare(read_model(published, "m"), {"x": IN}, {"537": OUT})
    with pytest.raises(ValueError, match="computes no '539'"):
        redeclare(read_model(published, "m"), {"input.1": IN}, {"539": OUT})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no model", b"\x08\x08"])
def test_other_files_are_no_models(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"a/b\.onnx: not an ONNX model"):
        read_model(content, "a/b.onnx")
