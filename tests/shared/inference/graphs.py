"""Small real graphs, and artifacts and batchers made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.inference.artifact import Artifact, Draft, GraphDraft, Tensor, write_artifact
from shared.inference.datatypes import NUMPY_TYPES
from shared.inference.manifest import Batching, Cost, Graph, Pad, PadOutput

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
# Weights of the linear graph: small whole numbers, so that every sum is exact.
WEIGHTS = (np.arange(64, dtype=np.float32).reshape(16, 4) % 7) - 3


def make_model(
    nodes: list[Any], inputs: list[Tensor], outputs: list[Tensor], constants: Mapping[str, Any] | None = None
) -> bytes:
    """Serialize a graph; -1 axes become named ones."""

    def describe(tensor: Tensor) -> Any:
        shape = [f"{tensor.name}_{i}" if axis < 0 else axis for i, axis in enumerate(tensor.shape)]
        return helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], shape)

    graph = helper.make_graph(
        nodes,
        "graph",
        [describe(tensor) for tensor in inputs],
        [describe(tensor) for tensor in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def draft_graph(
    nodes: list[Any],
    inputs: list[Tensor],
    outputs: list[Tensor],
    constants: Mapping[str, Any] | None = None,
    *,
    file: str = "model.onnx",
    max_batch_size: int = 8,
    batching: Batching | None = None,
) -> GraphDraft:
    """A graph with its signature."""
    content = make_model(nodes, inputs, outputs, constants)
    return GraphDraft(content, file, tuple(inputs), tuple(outputs), max_batch_size, batching)


def linear(max_batch_size: int = 8, file: str = "model.onnx") -> GraphDraft:
    """y = x @ WEIGHTS, [N, 16] to [N, 4]."""
    return draft_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [Tensor("x", "FP32", (-1, 16))],
        [Tensor("y", "FP32", (-1, 4))],
        {"w": WEIGHTS},
        max_batch_size=max_batch_size,
        file=file,
    )


def identity(dtype: str, max_batch_size: int = 8) -> GraphDraft:
    """y = x of any datatype, [N, any]."""
    return draft_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        [Tensor("x", dtype, (-1, -1))],
        [Tensor("y", dtype, (-1, -1))],
        max_batch_size=max_batch_size,
    )


def picky(max_batch_size: int = 8) -> GraphDraft:
    """y = 10 * index, for indices below 4; any other fails the whole run. [N] to [N]."""
    return draft_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [Tensor("x", "INT64", (-1,))],
        [Tensor("y", "INT64", (-1,))],
        {"table": np.arange(4, dtype=np.int64) * 10},
        max_batch_size=max_batch_size,
    )


def slow(max_batch_size: int = 8) -> GraphDraft:
    """y = x after max(x) turns of a loop, [N] to [N]: a large x holds the session until it is told to end."""
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["go"]), helper.make_node("Identity", ["carried"], ["kept"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.INT64, None),
        ],
        [flag, helper.make_tensor_value_info("kept", TensorProto.INT64, None)],
    )
    return draft_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
            helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
        ],
        [Tensor("x", "INT64", (-1,))],
        [Tensor("y", "INT64", (-1,))],
        {"yes": np.array(True)},
        max_batch_size=max_batch_size,
    )


def batch_wide(max_batch_size: int = 8) -> GraphDraft:
    """A graph that quantizes dynamically: one scale over all that runs together."""
    return draft_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        [Tensor("x", "FP32", (-1, 4))],
        [Tensor("y", "FP32", (-1, 4))],
        max_batch_size=max_batch_size,
    )


def summed(max_batch_size: int = 8) -> GraphDraft:
    """Says that it has a batch axis and sums it away: [N, 4] to [1, 4]."""
    return draft_graph(
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=1)],
        [Tensor("x", "FP32", (-1, 4))],
        [Tensor("y", "FP32", (-1, 4))],
        {"axis": np.array([0], dtype=np.int64)},
        max_batch_size=max_batch_size,
    )


def two_of_each(max_batch_size: int = 8) -> GraphDraft:
    """sum = a + b and difference = a - b, [N, any]."""
    return draft_graph(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [Tensor("a", "FP32", (-1, -1)), Tensor("b", "FP32", (-1, -1))],
        [Tensor("sum", "FP32", (-1, -1)), Tensor("difference", "FP32", (-1, -1))],
        max_batch_size=max_batch_size,
    )


def hungry(max_batch_size: int = 8) -> GraphDraft:
    """y = (x @ ones) @ ones, [N, any, 1] to [N, any, 1]: in between, 4096 times as much as went in."""
    return draft_graph(
        [helper.make_node("MatMul", ["x", "wide"], ["m"]), helper.make_node("MatMul", ["m", "tall"], ["y"])],
        [Tensor("x", "FP32", (-1, -1, 1))],
        [Tensor("y", "FP32", (-1, -1, 1))],
        {"wide": np.ones((1, 4096), np.float32), "tall": np.ones((4096, 1), np.float32)},
        max_batch_size=max_batch_size,
    )


def masked(max_batch_size: int = 8) -> GraphDraft:
    """Rows of unlike lengths: pick = 10 * x for x below 4 (any other fails the run), total = their sum where the mask is 1.

    x and mask [N, any] to pick [N, any] and total [N]; a row is filled up with no zeros, so that a mask not read shows.
    """
    return draft_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["pick"]),
            helper.make_node("Mul", ["pick", "mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axis"], ["total"], keepdims=0),
        ],
        [Tensor("x", "INT64", (-1, -1)), Tensor("mask", "INT64", (-1, -1))],
        [Tensor("pick", "INT64", (-1, -1)), Tensor("total", "INT64", (-1,))],
        {"table": np.arange(4, dtype=np.int64) * 10, "axis": np.array([1], dtype=np.int64)},
        max_batch_size=max_batch_size,
        batching=Batching(
            cost=Cost(input="x", axes=(0, 1)),
            pad=Pad(axis=1, inputs={"x": 3, "mask": 0}, outputs={"pick": PadOutput(axis=1)}),
        ),
    )


def golden_of(draft: GraphDraft, graph: str = "model") -> dict[str, Any]:
    """Golden arrays of one of the graphs above, worked out here and not by ONNX Runtime."""
    tensor = draft.inputs[0]
    if len(draft.inputs) == 2:
        a, b = np.ones((1, 3), np.float32), np.full((1, 3), 2, np.float32)
        return {
            f"{graph}/in/a": a,
            f"{graph}/in/b": b,
            f"{graph}/out/sum": a + b,
            f"{graph}/out/difference": a - b,
        }
    shape = [axis if axis >= 0 else 1 for axis in tensor.shape]
    if tensor.dtype == "BYTES":
        value: Any = np.full(shape, "text")
    else:
        value = np.ones(shape, NUMPY_TYPES[tensor.dtype])
    operators = {node.op_type for node in onnx.load_from_string(draft.content).graph.node}
    answer = value
    if "MatMul" in operators:
        # The linear graph, or the hungry one.
        answer = value @ WEIGHTS if shape[-1] == len(WEIGHTS) else value * 4096
    elif "Gather" in operators:
        answer = value * 10
    return {f"{graph}/in/x": value, f"{graph}/out/y": answer}


def draft_of(*graphs: GraphDraft, **graphs_by_name: GraphDraft) -> Draft:
    """A draft of one graph called `model`, or of several by name."""
    named = dict(graphs_by_name) if graphs_by_name else {"model": graphs[0]}
    golden: dict[str, Any] = {}
    for name, graph in named.items():
        golden |= golden_of(graph, name)
    return Draft(
        graphs=named,
        constants={"size": (1, 2)},
        preprocessing="numbers/1",
        golden=golden,
        golden_made_by="numpy",
        tolerance={"CPUExecutionProvider": {"rtol": 1e-5, "atol": 1e-5}},
        assets={"labels": ("labels.txt", b"one\ntwo\n")},
    )


def entry_of(name: str, version: str = "1", service: str = "test", **fields: Any) -> dict[str, Any]:
    """What a catalogue says of a model."""
    return {
        "name": name,
        "service": service,
        "version": version,
        "task": "DoTask",
        "license": "MIT",
        "description": "A graph for tests.",
        **fields,
    }


def write_model(
    models_dir: Path, name: str, *graphs: GraphDraft, version: str = "1", **more: Any
) -> Artifact:
    """Write an artifact of graphs."""
    return write_artifact(models_dir, entry_of(name, version), draft_of(*graphs, **more))


def signature_of(draft: GraphDraft) -> Graph:
    """The signature as the batcher takes it."""
    return Graph(
        file=draft.file,
        inputs=draft.inputs,
        outputs=draft.outputs,
        max_batch_size=draft.max_batch_size,
        batching=draft.batching or Batching(),
    )
