"""Emptying graphs and filling them again."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from shared.inference.weights import fill_graph, strip_graph

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
SCALE = np.float32(0.5)
TENSORS = {"weight": WEIGHT, "scale": np.asarray(SCALE)}


@pytest.fixture
def model() -> bytes:
    """y = (x @ weight) * scale, reshaped by a constant that belongs to the graph."""
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["product"], doc_string="traced at /home/somebody"),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])],
        [
            numpy_helper.from_array(WEIGHT, "weight"),
            numpy_helper.from_array(np.asarray(SCALE), "scale"),
            numpy_helper.from_array(np.array([6], np.int64), "shape"),
        ],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def graph(model: bytes) -> bytes:
    """The same without its two weights."""
    return strip_graph(model, ["weight", "scale"])


def run(content: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": np.array([[1, 2], [3, 4]], np.float32)})[0]


def test_filling_undoes_stripping(model: bytes, graph: bytes) -> None:
    filled = fill_graph(graph, TENSORS)
    np.testing.assert_array_equal(run(filled), run(model))
    assert filled == fill_graph(graph, dict(reversed(TENSORS.items())))


def test_a_stripped_graph_holds_no_weights(model: bytes, graph: bytes) -> None:
    assert WEIGHT.tobytes() in model
    assert WEIGHT.tobytes() not in graph
    assert b"/home" not in graph
    initializers = {item.name: item for item in onnx.load_model_from_string(graph).graph.initializer}
    assert list(initializers["weight"].dims) == [2, 3]
    np.testing.assert_array_equal(numpy_helper.to_array(initializers["shape"]), [6])


def test_all_initializers_are_emptied_by_default(model: bytes) -> None:
    with pytest.raises(ValueError, match="1 of the graph's 3 tensors are missing, first 'shape'"):
        fill_graph(strip_graph(model), TENSORS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weight": None}, "1 of the graph's 2 tensors are missing, first 'weight'"),
        ({"bias": WEIGHT}, "not declared by the graph, first 'bias'"),
        ({"shape": np.array([6])}, "not declared by the graph, first 'shape'"),
        ({"weight": WEIGHT.T}, r"'weight': expected shape \(2, 3\), got \(3, 2\)"),
        ({"scale": np.array([0.5], np.float32)}, r"'scale': expected shape \(\), got \(1,\)"),
        ({"weight": WEIGHT.astype(np.float64)}, "'weight': expected dtype float32, got float64"),
    ],
)
def test_tensors_that_do_not_fit_are_named(graph: bytes, change: dict, reason: str) -> None:
    tensors = {name: value for name, value in (TENSORS | change).items() if value is not None}
    with pytest.raises(ValueError, match=reason):
        fill_graph(graph, tensors)


def test_turned_tensors_are_laid_out_anew(model: bytes, graph: bytes) -> None:
    turned = np.ascontiguousarray(WEIGHT.T).T
    np.testing.assert_array_equal(run(fill_graph(graph, TENSORS | {"weight": turned})), run(model))


def test_what_cannot_be_stripped_is_named(model: bytes) -> None:
    with pytest.raises(ValueError, match="'weigth' is not an initializer"):
        strip_graph(model, ["weigth"])
    outside = onnx.load_model_from_string(model)
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="'weight' keeps its data in another file"):
        strip_graph(outside.SerializeToString())


@pytest.mark.parametrize("function", [strip_graph, lambda content: fill_graph(content, {})])
def test_other_files_are_no_models(function) -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        function(b"PK\x03\x04 not a model")
