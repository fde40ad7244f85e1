"""Weights in int8, sums in float32: a quarter of the bytes, and answers that differ only by the rounding of weights.

Lives here: the rewriting of a graph. Not here: sums in int8 (`calibrated.py`).

Each weight is q * scale with one scale for a row of a table (for a column of a narrow one), or for one output of a layer, so
that large outputs do not coarsen small ones. In the graph that is Cast and Mul, which ONNX Runtime computes once when it
opens the graph: a run then costs what it cost in float32. (DequantizeLinear, the other way to write it, is kept for fusing
and is computed anew in every run; MatMulNBits is no operator of ONNX, and ran .5 to 1 times as fast as float32 on the
encoder that `calibrated.py` speaks of.) Tables are looked up in int8 and scaled afterwards: they stay small in memory too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from shared.inference.rounding import LARGEST, round_weights

# Smaller tensors are not worth the two nodes; and biases and norms, all of them small, stay exact.
SMALLEST = 1024
# Rows of fewer values share scales by column: one of their own would be a large part of their bytes.
_WIDE = 16

# Operator -> input that holds weights.
_WEIGHTS = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1}
_RECURRENT = ("LSTM", "GRU", "RNN")
# Operators that only rearrange values: the exporter writes them where ONNX has a layer's gates in another order than torch.
_REARRANGING = {"Concat", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


def weight_only_int8(
    content: bytes, *, smallest: int = SMALLEST, keep: Collection[str] = (), wide_scales: bool = False
) -> bytes:
    """The graph with its large float32 weights in int8; signature and file layout stay.

    smallest: tensors of fewer values stay as they are; keep: names of initializers that do; wide_scales: the scales of
    tables are float32 as well, not float16, for whoever lays them out elsewhere.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    _rearrange_weights(model)
    held = {item.name: item for item in graph.initializer}
    users: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in held:
                users.setdefault(name, []).append((node, index))
    before: list[NodeProto] = []  # computed once, when the graph is opened
    after: dict[int, list[NodeProto]] = {}  # id of a node -> what follows it
    for name, uses in users.items():
        item = held[name]
        if name in keep or item.data_type != TensorProto.FLOAT:
            continue
        value = numpy_helper.to_array(item)
        if value.size < smallest:
            continue
        if value.ndim in (1, 2) and all(_looks_up(node, index, value.ndim) for node, index in uses):
            by_row = value.ndim == 2 and value.shape[1] >= _WIDE
            whole, scale = (
                round_weights(value, (1,)) if by_row and wide_scales else _round_table(value, by_row=by_row)
            )
            _replace(graph, item, name, whole, scale)
            for node, _ in uses:
                after[id(node)] = _scale_rows(node, name, by_row=by_row)
        elif (kept := _kept_axes(uses, value.ndim)) is not None:
            whole, scale = round_weights(value, tuple(axis for axis in range(value.ndim) if axis not in kept))
            _replace(graph, item, name, whole, scale)
            # The float tensor keeps the name, so that nodes need not change.
            before += [
                helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]),
            ]
    nodes = [part for node in graph.node for part in (node, *after.get(id(node), ()))]
    set_nodes(graph, [*before, *nodes])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Put nodes, its own or others, in the place of a graph's."""
    # Copied, as taking its own out would empty them.
    copied = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copied)


def _rearrange_weights(model: onnx.ModelProto) -> None:
    """Store weights in the order in which layers take them, instead of rearranging them when the graph is opened."""
    graph = model.graph
    held = {item.name: item for item in graph.initializer}
    kept: list[NodeProto] = []
    for node in graph.node:
        given = [name for name in node.input if name]
        if node.op_type in _REARRANGING and all(name in held for name in given):
            taken = {name: numpy_helper.to_array(held[name]) for name in given}
            [made] = ReferenceEvaluator(node, opsets={"": model.opset_import[0].version}).run(None, taken)
            held[node.output[0]] = numpy_helper.from_array(np.ascontiguousarray(made), node.output[0])
        else:
            kept.append(node)
    if len(kept) == len(graph.node):
        return
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    set_nodes(graph, kept)
    del graph.initializer[:]
    graph.initializer.extend(item for name, item in held.items() if name in used)


def _kept_axes(uses: list[tuple[NodeProto, int]], dims: int) -> tuple[int, ...] | None:
    """The axes along which each place has a scale of its own; None where some use is not one of weights."""
    wanted: set[tuple[int, ...]] = set()
    for node, index in uses:
        if node.op_type in _RECURRENT and index in (1, 2):
            wanted.add((0, 1))  # direction, gate and unit
        elif _WEIGHTS.get(node.op_type) != index:
            return None
        elif node.op_type == "Conv":
            wanted.add((0,))
        elif node.op_type == "ConvTranspose":
            wanted.add((1,))
        elif node.op_type == "Gemm" and any(part.name == "transB" and part.i for part in node.attribute):
            wanted.add((0,))
        elif dims >= 2:
            wanted.add((*range(dims - 2), dims - 1))
        else:
            return None
    return wanted.pop() if len(wanted) == 1 else None


def _replace(
    graph: onnx.GraphProto,
    item: TensorProto,
    name: str,
    whole: NDArray[np.int8],
    scale: NDArray[np.generic],
) -> None:
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    item.CopyFrom(numpy_helper.from_array(whole, f"{name}.int8"))


def _looks_up(node: NodeProto, index: int, dims: int) -> bool:
    """Whether a node takes rows out of a table by number: Gather, or GatherND where there is one axis."""
    if index != 0:
        return False
    axis = next((part.i for part in node.attribute if part.name == "axis"), 0)
    return (node.op_type == "Gather" and axis == 0) or (node.op_type == "GatherND" and dims == 1)


def _round_table(value: NDArray[np.float32], *, by_row: bool) -> tuple[NDArray[np.int8], NDArray[np.generic]]:
    """By row: scales in float16, rounded up, so that no row is cut off at 127. Else one for each column, in float32."""
    if not by_row:
        return round_weights(value, (0,))
    scale = np.maximum(np.abs(value).max(axis=1, keepdims=True) / LARGEST, np.finfo(np.float16).tiny)
    half = scale.astype(np.float16)
    half = np.where(half.astype(np.float32) < scale, np.nextafter(half, np.float16(np.inf)), half)
    if not np.isfinite(half).all():
        return round_weights(value, (1,))
    return np.clip(np.rint(value / half.astype(np.float32)), -LARGEST, LARGEST).astype(np.int8), half


def _scale_rows(node: NodeProto, name: str, *, by_row: bool) -> list[NodeProto]:
    """Look values up in int8 and multiply by their scales; the node itself becomes the first of it."""
    ids, output = node.input[1], node.output[0]
    node.input[0] = f"{name}.int8"
    node.output[0] = f"{output}.int8"
    scale, scaling = f"{name}.scale", []
    if by_row:
        scale = f"{output}.scale"
        scaling = [
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{output}.half"], axis=0),
            helper.make_node("Cast", [f"{output}.half"], [scale], to=TensorProto.FLOAT),
        ]
    return [
        *scaling,
        helper.make_node("Cast", [f"{output}.int8"], [f"{output}.whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}.whole", scale], [output]),
    ]
