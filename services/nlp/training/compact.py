"""A classifier over n-grams in a byte for each of its numbers, its answers the same but for their rounding.

`weight_only_int8` keeps a float32 scale for each row of a table, which is more than the rows themselves where there are few
labels, and leaves the n-grams' own weights as they are. Here one scale serves a whole column (a label, or a hidden number),
so it can be multiplied after the sum over n-grams, and n-grams' weights, which are all positive, get a byte each as well.
Not here: the graph in float32 (`shared.training.export`).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from shared.training.export import ExportError

ROWS, WEIGHTS = "rows.weight", "weights"
_SIGNED, _UNSIGNED = 127, 255


def compact(content: bytes) -> bytes:
    """The graph of an `NgramClassifier` with its two tables in int8 and uint8; signature and order of nodes stay.

    Raises:
        ExportError: it is another graph.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    held = {item.name: item for item in graph.initializer}
    if missing := [name for name in (ROWS, WEIGHTS) if name not in held]:
        raise ExportError(f"expected the graph of an NgramClassifier, got one without {missing[0]}")
    rows, weights = (numpy_helper.to_array(held[name]) for name in (ROWS, WEIGHTS))
    columns = _scale(np.abs(rows).max(0), _SIGNED)
    one = _scale(weights.max(), _UNSIGNED)
    held[ROWS].CopyFrom(numpy_helper.from_array(np.rint(rows / columns).astype(np.int8), ROWS))
    held[WEIGHTS].CopyFrom(numpy_helper.from_array(np.rint(weights / one).astype(np.uint8), WEIGHTS))
    graph.initializer.append(numpy_helper.from_array(columns, f"{ROWS}.scale"))
    graph.initializer.append(numpy_helper.from_array(one, f"{WEIGHTS}.scale"))
    nodes: list[NodeProto] = []
    looked_up = ""
    for node in graph.node:
        copied = NodeProto.FromString(node.SerializeToString())
        nodes.append(copied)
        table = node.input[0] if node.op_type == "Gather" else ""
        if table == ROWS:
            looked_up = node.output[0]
            copied.output[0] = f"{looked_up}.whole"
            nodes.append(helper.make_node("Cast", [copied.output[0]], [looked_up], to=TensorProto.FLOAT))
        elif table == WEIGHTS:
            nodes += _scale_after(copied, f"{WEIGHTS}.scale", cast=True)
        elif node.op_type == "MatMul" and looked_up and node.input[1] == looked_up:
            nodes += _scale_after(copied, f"{ROWS}.scale")
    if len(nodes) != len(graph.node) + 4:
        raise ExportError(f"expected one look-up of {ROWS} and {WEIGHTS} and one product, got another graph")
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _scale(largest: np.ndarray, steps: int) -> np.ndarray:
    """What a step is worth; 1 where everything is 0."""
    return np.where(largest > 0, largest / steps, 1.0).astype(np.float32)


def _scale_after(node: NodeProto, scale: str, *, cast: bool = False) -> list[NodeProto]:
    """What multiplies a node's output, which keeps its name, by a scale."""
    output = node.output[0]
    node.output[0] = before = f"{output}.whole"
    added = []
    if cast:
        added.append(helper.make_node("Cast", [before], [f"{output}.float"], to=TensorProto.FLOAT))
        before = f"{output}.float"
    return [*added, helper.make_node("Mul", [before, scale], [output])]
