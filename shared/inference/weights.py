"""Weights for graphs that hold none: fills a committed ONNX graph, and empties one for committing.

`read_torch_tensors` is offered here too, since a recipe needs both. Not here: how a state file is read
(`torch_file.py`), where files come from, serving (`onnx` is imported, so nothing that a serving process
imports may reach this module).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.inference.torch_file import read_torch_tensors

__all__ = ["fill_graph", "read_torch_tensors", "strip_graph"]


def fill_graph(graph: bytes, tensors: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Put tensors into an ONNX graph whose initializers are declared (name, dtype, shape) but hold no data.

    Initializers that already hold data (shapes, axes, constants) stay and must not be among `tensors`.

    Returns the serialized model; the same inputs give the same bytes.
    Raises:
        ValueError: a declared tensor is missing, one that is not declared is given, or dtype or shape differ.
    """
    model = _parse(graph)
    declared = {item.name: item for item in model.graph.initializer if _is_empty(item)}
    if missing := sorted(declared.keys() - tensors.keys()):
        raise ValueError(
            f"{len(missing)} of the graph's {len(declared)} tensors are missing, first {missing[0]!r}"
        )
    if extra := sorted(tensors.keys() - declared.keys()):
        raise ValueError(
            f"{len(extra)} tensors are not declared by the graph, first {extra[0]!r}; leave them out"
        )
    for name, item in declared.items():
        tensor, shape = tensors[name], tuple(item.dims)
        dtype = helper.tensor_dtype_to_np_dtype(item.data_type)
        if tensor.shape != shape:
            raise ValueError(f"tensor {name!r}: expected shape {shape}, got {tensor.shape}")
        if tensor.dtype != dtype:
            raise ValueError(f"tensor {name!r}: expected dtype {dtype}, got {tensor.dtype}; convert it first")
        item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(tensor).reshape(shape), name))
    return bytes(model.SerializeToString(deterministic=True))


def strip_graph(model: bytes, weights: Collection[str] | None = None) -> bytes:
    """Take the data out of a model's initializers, leaving name, dtype and shape: undoes `fill_graph`.

    `weights` names the initializers to empty; None means all of them. Documentation strings go too.

    Raises:
        ValueError: a name in `weights` is not an initializer, or an initializer's data lie outside the model.
    """
    loaded = _parse(model)
    present = {item.name: item for item in loaded.graph.initializer}
    chosen = present.keys() if weights is None else set(weights)
    if unknown := sorted(chosen - present.keys()):
        raise ValueError(f"{unknown[0]!r} is not an initializer of the graph")
    for name in sorted(chosen):
        item = present[name]
        if item.data_location == TensorProto.EXTERNAL:
            raise ValueError(
                f"initializer {name!r} keeps its data in another file; load the model with them first"
            )
        item.CopyFrom(TensorProto(name=name, data_type=item.data_type, dims=item.dims))
    for node in loaded.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    loaded.graph.ClearField("doc_string")
    loaded.ClearField("doc_string")
    return bytes(loaded.SerializeToString(deterministic=True))


def _parse(content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"not an ONNX model: {error}") from error


def _is_empty(item: TensorProto) -> bool:
    """Whether an initializer is declared without the data that its shape asks for."""
    if math.prod(item.dims) == 0 or item.data_location == TensorProto.EXTERNAL:
        return False
    fields = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
    return not item.raw_data and not any(len(getattr(item, field)) for field in fields)
