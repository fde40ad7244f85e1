"""Reads `.safetensors` files into numpy arrays: a JSON header, then the tensors' raw bytes.

Source: the format's description in the safetensors project. A file is data only, but nothing in it is believed: sizes,
offsets and shapes are checked before a byte is copied. Not here: PyTorch's own files (`torch_file.py`).
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Those that numpy has; BF16 is widened to float32, exactly.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_MAX_HEADER = 100_000_000  # the format's own bound


def read_safetensors(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Read all tensors by name; the arrays are views of `content` and read-only (but for BF16's).

    Raises:
        ValueError: the file is not of the format, cut off, or of a dtype that is not read; says which tensor.
    """
    header, start = _read_header(content)
    body = memoryview(content)[start:]
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _read_tensor(name, entry, body)
    return tensors


def _read_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header and where the tensors' bytes begin."""
    if len(content) < 8:
        raise ValueError(f"not a safetensors file: expected at least 8 bytes, got {len(content)}")
    size = int.from_bytes(content[:8], "little")
    if not 2 <= size <= min(_MAX_HEADER, len(content) - 8):
        raise ValueError(
            f"not a safetensors file: a header of {size} bytes is announced, the file has {len(content)}"
        )
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a safetensors file: its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"not a safetensors file: expected an object as header, got {type(header).__name__}")
    return header, 8 + size


def _read_tensor(name: str, entry: Any, body: memoryview) -> NDArray[np.generic]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"tensor {name!r}: expected dtype, shape and data_offsets, got {entry!r:.80}"
        ) from error
    numbers = (*shape, begin, end)
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError(f"tensor {name!r}: expected whole numbers >= 0, got {entry!r:.80}")
    if dtype != "BF16" and dtype not in _TYPES:
        raise ValueError(
            f"tensor {name!r}: expected a dtype of {', '.join(_TYPES)} or BF16, got {dtype!r:.20}"
        )
    kind = np.dtype(_TYPES.get(dtype, "<u2"))
    if end > len(body) or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(
            f"tensor {name!r}: {dtype} {list(shape)} at bytes {begin} to {end} does not fit a body of {len(body)} bytes"
        )
    flat = np.frombuffer(body[begin:end], kind)
    if dtype == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(shape)
