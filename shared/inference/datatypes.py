"""The Open Inference Protocol's datatypes: their names, numpy's, and how elements lie on the wire.

Here: pure functions between bytes, typed protobuf lists and numpy arrays; they raise `ValueError` with a
reason. Not
here: requests, field names and statuses (`oip/`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # Only for types: recipes read the dtype names from here and need no stubs.
    from sensorium.oip.v2 import inference_pb2 as pb

Array = NDArray[Any]

# BF16 has no numpy type: its arrays hold the 16 bits of each element.
NUMPY_TYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}

# ONNX Runtime's names of element types.
ONNX_TYPES: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

# The one list of `InferTensorContents` that carries each datatype; FP16 and BF16 have none and go raw.
CONTENTS_FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_LENGTH = struct.Struct("<I")  # before each element of a raw BYTES tensor


def decode_raw(datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Read a tensor's raw bytes: a read-only view of them, or an object array of `str` for BYTES.

    Nothing is allocated by `shape` before the byte count is known to fit it.

    Raises:
        ValueError: the byte count does not fit the shape, or a BYTES element is cut off or is not UTF-8. The
        text reads "got …".
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _decode_bytes(count, bytes(raw)).reshape(tuple(shape))
    dtype = NUMPY_TYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype).reshape(tuple(shape))


def describe_raw(datatype: str, shape: Sequence[int]) -> str:
    """Say how many raw bytes a tensor takes: "602112 bytes (FP32 [1, 3, 224, 224])"."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return f"{count} elements, each preceded by its length in 4 little-endian bytes"
    return f"{count * NUMPY_TYPES[datatype].itemsize} bytes ({datatype} {list(shape)})"


def _decode_bytes(count: int, raw: bytes) -> Array:
    # Each element takes at least the 4 bytes of its length: a claimed count is checked before it is
    # allocated.
    if count * _LENGTH.size > len(raw):
        raise ValueError(f"{len(raw)} bytes, too few for {count} elements")
    elements = np.empty(count, dtype=np.object_)
    position = 0
    for index in range(count):
        if position + _LENGTH.size > len(raw):
            raise ValueError(f"{len(raw)} bytes that end before element {index}")
        (length,) = _LENGTH.unpack_from(raw, position)
        position += _LENGTH.size
        if position + length > len(raw):
            raise ValueError(f"element {index} of {length} bytes, {len(raw) - position} bytes left")
        elements[index] = _decode_text(index, raw[position : position + length])
        position += length
    if position != len(raw):
        raise ValueError(f"{len(raw) - position} bytes behind the last of {count} elements")
    return elements


def _decode_text(index: int, element: bytes) -> str:
    # ONNX Runtime's strings are UTF-8 text; its Python binding takes them as `str`.
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"element {index} that is not UTF-8 at byte {error.start}") from None


def encode_raw(datatype: str, array: Array) -> bytes:
    """Turn a tensor into raw bytes, little-endian and row-major; the one copy that a reply makes."""
    if datatype != "BYTES":
        return array.astype(NUMPY_TYPES[datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for element in _elements(array):
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def decode_contents(datatype: str, shape: Sequence[int], contents: pb.InferTensorContents) -> Array:
    """Read a tensor's typed list.

    Raises:
        ValueError: FP16 or BF16 (no list carries them), another list than the datatype's is filled, the number of
            elements does not fit the shape, or an element is out of the datatype's range or not UTF-8. The text
            reads "got …".
    """
    wanted = CONTENTS_FIELDS.get(datatype)
    for field, _value in contents.ListFields():
        if field.name != wanted:
            raise ValueError(f"elements in {field.name}")
    if wanted is None:
        raise ValueError("typed contents")
    values = getattr(contents, wanted)
    count = math.prod(shape)
    if len(values) != count:
        raise ValueError(f"{len(values)} elements")
    if datatype == "BYTES":
        elements = np.empty(count, dtype=np.object_)
        for index, value in enumerate(values):
            elements[index] = _decode_text(index, value)
        return elements.reshape(tuple(shape))
    dtype = NUMPY_TYPES[datatype]
    if dtype.kind in "iu" and dtype.itemsize < 4:
        wide = np.array(values, dtype=np.int64)
        limits = np.iinfo(dtype)
        outside = np.flatnonzero((wide < limits.min) | (wide > limits.max))
        if outside.size:
            first = int(outside[0])
            raise ValueError(f"element {first} = {wide[first]}, outside {limits.min} to {limits.max}")
        return wide.astype(dtype).reshape(tuple(shape))
    return np.array(values, dtype=dtype).reshape(tuple(shape))


def encode_contents(datatype: str, array: Array, contents: pb.InferTensorContents) -> None:
    """Put a tensor's elements into the typed list that fits the datatype (not FP16, not BF16)."""
    values: Iterable[object] = _elements(array) if datatype == "BYTES" else array.ravel().tolist()
    getattr(contents, CONTENTS_FIELDS[datatype]).extend(values)


def _elements(array: Array) -> list[bytes]:
    """The elements of a string tensor as UTF-8."""
    return [str(element).encode() for element in array.ravel().tolist()]


def widen(datatype: str, array: Array) -> Array:
    """The elements as numbers that numpy can compare: BF16 as FP32, the others as they are."""
    if datatype != "BF16":
        return array
    # The upper half of an FP32's bits, by definition.
    return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
