"""Gives a published ONNX file the names and dynamic axes that its artifact declares; its weights stay as they are.

Here: inputs, outputs and metadata of a graph. Not here: what any of them means (the recipes).
"""

from collections.abc import Mapping

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from shared.inference.artifact import Tensor

_TYPES = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}


def read_model(content: bytes, member: str) -> onnx.ModelProto:
    """Read and check a published ONNX file. Raises ValueError naming the member if it is none."""
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ValueError(f"{member}: not an ONNX model: {error}") from error
    return model


def redeclare(model: onnx.ModelProto, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> bytes:
    """Rename the graph's inputs and outputs, set their axes, and serialize it. `model` is changed.

    Both map the published name to what it shall be; -1 makes an axis dynamic. Computed values that are not
    named are no outputs. Weights listed among the inputs, as old exporters did, become constants, which lets
    the runtime fold them. Metadata, documentation strings and weights that no node reads are dropped.

    Raises:
        ValueError: the graph has other inputs, or computes no such output.
    """
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    published = {item.name for item in graph.input} - weights
    if published != inputs.keys():
        raise ValueError(f"the model's inputs are {sorted(published)}, expected {sorted(inputs)}")
    if absent := sorted(outputs.keys() - {name for node in graph.node for name in node.output}):
        raise ValueError(f"the model computes no {absent[0]!r}")
    names = {old: port.name for old, port in [*inputs.items(), *outputs.items()]}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.ClearField("doc_string")
    read = {name for node in graph.node for name in node.input}
    used = [item for item in graph.initializer if item.name in read]
    del graph.initializer[:], graph.input[:], graph.output[:], graph.value_info[:], model.metadata_props[:]
    graph.initializer.extend(used)
    graph.input.extend(_declare(port) for port in inputs.values())
    graph.output.extend(_declare(port) for port in outputs.values())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _declare(port: Tensor) -> onnx.ValueInfoProto:
    axes = [size if size >= 0 else ("batch" if axis == 0 else None) for axis, size in enumerate(port.shape)]
    return helper.make_tensor_value_info(port.name, _TYPES[port.dtype], axes)
