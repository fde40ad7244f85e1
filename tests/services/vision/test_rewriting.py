"""Rewritten graphs: the patterns are found, the answers stay, and what only looks like a pattern is left alone."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from services.vision.models.rewriting import rewrite

RANDOM = np.random.RandomState(7)
CHANNELS = 4
WEIGHTS = {
    "w1": RANDOM.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32),
    "b1": RANDOM.normal(size=CHANNELS).astype(np.float32),
    "w2": RANDOM.normal(size=(CHANNELS, 1, 3, 3)).astype(np.float32),
    "w3": RANDOM.normal(size=(5, CHANNELS, 1, 1)).astype(np.float32),
    **{f"c{value:g}": np.array([value], np.float32) for value in (0.25, 2, 3, 7)},
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "seven": np.array(7, np.float32),
    "sixth": np.array(1 / 6, np.float32),
    "whole": np.array(6, np.int64),
}


def node(op: str, inputs: str, output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], output, **attributes)


FIRST = node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1])
HARD_SWISH = [
    node("Add", "a c3", "shifted"),
    node("Clip", "shifted zero six", "clipped"),
    node("Mul", "a clipped", "product"),
    node("Div", "product six", "swish"),
]
DEPTHWISE = node("Conv", "v w2", "y", pads=[1, 1, 1, 1], group=CHANNELS)
POINTWISE = node("Conv", "v w3", "y")


def make(nodes: Sequence[NodeProto], outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, None, None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = np.random.RandomState(3).normal(scale=3, size=(2, 3, 6, 5)).astype(np.float32)
    return session.run(None, {"x": image})


PATTERNS = {
    "hard swish": (
        [FIRST, *HARD_SWISH, node("Relu", "swish", "y")],
        {"Conv": 1, "HardSigmoid": 1, "Mul": 1, "Relu": 1},
    ),
    "hard swish, scale first": (
        [
            FIRST,
            node("Mul", "sixth a", "small"),
            node("Add", "a c3", "shifted"),
            node("Clip", "shifted zero six", "clipped"),
            node("Mul", "small clipped", "v"),
            DEPTHWISE,
        ],
        {"Conv": 2, "HardSigmoid": 1, "Mul": 1},
    ),
    "scale and shift after a convolution": (
        [FIRST, node("Mul", "c2 a", "scaled"), node("Add", "scaled c7", "v"), node("Relu", "v", "y")],
        {"Conv": 1, "Relu": 1},
    ),
    "scale and shift before an unpadded convolution": (
        [FIRST, *HARD_SWISH, node("Mul", "swish c2", "scaled"), node("Add", "scaled c7", "v"), POINTWISE],
        {"Conv": 2, "HardSigmoid": 1, "Mul": 1},
    ),
    "scale before a padded convolution": (
        [FIRST, *HARD_SWISH, node("Mul", "swish c2", "v"), DEPTHWISE],
        {"Conv": 2, "HardSigmoid": 1, "Mul": 1},
    ),
    "scale and shift before a padded convolution": (
        [FIRST, *HARD_SWISH, node("Mul", "swish c2", "scaled"), node("Add", "scaled c7", "v"), DEPTHWISE],
        {"Conv": 3, "HardSigmoid": 1, "Mul": 1},
    ),
    "scales in a row": (
        [
            node("Relu", "x", "r"),
            node("Mul", "r c2", "s"),
            node("Div", "s c0.25", "t"),
            node("Mul", "t c7", "y"),
        ],
        {"Relu": 1, "Mul": 1},
    ),
}


@pytest.mark.parametrize(("nodes", "expected"), PATTERNS.values(), ids=PATTERNS)
def test_patterns_are_found_and_keep_their_meaning(nodes: list[NodeProto], expected: dict[str, int]) -> None:
    model = make(nodes)
    before = run(model)
    rewrite(model)
    for got, wanted in zip(run(model), before, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert Counter(item.op_type for item in model.graph.node) == expected


LOOK_ALIKES = {
    "the convolution's own value is asked for": ([FIRST, node("Mul", "a c2", "y")], ("a", "y")),
    "the scaled value is asked for too": (
        [FIRST, *HARD_SWISH, node("Mul", "swish c2", "v"), POINTWISE],
        ("v", "y"),
    ),
    "two read what is scaled": ([FIRST, node("Mul", "a c2", "s"), node("Add", "s a", "y")], ("y",)),
    "other bounds": (
        [FIRST, node("Add", "a c3", "shifted"), node("Clip", "shifted zero seven", "y")],
        ("y",),
    ),
    "another shift": ([FIRST, node("Add", "a c2", "shifted"), node("Clip", "shifted zero six", "y")], ("y",)),
    "the clipped value is asked for": (
        [FIRST, *HARD_SWISH[:3], node("Div", "product six", "y")],
        ("clipped", "y"),
    ),
    "division by a value": ([FIRST, node("Div", "a a", "y")], ("y",)),
    "a number divided": ([FIRST, node("Div", "six a", "y")], ("y",)),
    "whole numbers": (
        [
            node("Shape", "x", "shape"),
            node("Div", "shape whole", "halved"),
            node("Cast", "halved", "y", to=TensorProto.FLOAT),
        ],
        ("y",),
    ),
}


@pytest.mark.parametrize(("nodes", "outputs"), LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_look_alikes_keep_their_meaning(nodes: list[NodeProto], outputs: tuple[str, ...]) -> None:
    model = make(nodes, outputs)
    before = run(model)
    rewrite(model)
    for got, wanted in zip(run(model), before, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_rewriting_twice_changes_nothing_more() -> None:
    model = make(PATTERNS["scale and shift before a padded convolution"][0])
    rewrite(model)
    once = Counter(item.op_type for item in model.graph.node)
    rewrite(model)
    assert Counter(item.op_type for item in model.graph.node) == once
