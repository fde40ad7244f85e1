"""Runs of graphs with BF16 inputs or outputs, a type that numpy does not have: their arrays hold the 16 bits.

Here: the way around ONNX Runtime's numpy binding, by values of its own. Not here: other graphs (`session.py`), which go
the short way. It costs some microseconds for each tensor, and a copy of each BF16 output.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnxruntime

from shared.inference.datatypes import NUMPY_TYPES, Array

# Of onnx's TensorProto.DataType.
_BFLOAT16 = 16


def run_bf16(
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    options: onnxruntime.RunOptions | None,
    bf16: Collection[str],
) -> list[Array]:
    """As `InferenceSession.run`; `bf16` are the names of the inputs of that type. Raises what it raises."""
    make, make_bf16 = (
        onnxruntime.OrtValue.ortvalue_from_numpy,
        onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type,
    )
    values = {
        name: make_bf16(np.ascontiguousarray(array), _BFLOAT16) if name in bf16 else make(array)
        for name, array in inputs.items()
    }
    return [_read(value) for value in session.run_with_ort_values(outputs, values, options)]


def _read(value: onnxruntime.OrtValue) -> Array:
    if value.element_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    read = np.empty(value.shape(), NUMPY_TYPES["BF16"])
    # The value owns its memory and is gone with this function.
    ctypes.memmove(read.ctypes.data, value.data_ptr(), read.nbytes)
    return read
