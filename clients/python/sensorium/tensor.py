"""Tensors as the Open Inference Protocol has them: a datatype, a shape, and the elements as bytes. numpy is imported only to
make arrays of them.
"""

import math
import operator
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sensorium.errors import SensoriumError
from sensorium.inputs import Array
from sensorium.results import Model

# Datatype -> (numpy's name, bytes of an element). BYTES has a length of its own for each, BF16 no name in numpy.
_NUMBERS = {
    "BOOL": ("bool", 1),
    "UINT8": ("uint8", 1),
    "UINT16": ("uint16", 2),
    "UINT32": ("uint32", 4),
    "UINT64": ("uint64", 8),
    "INT8": ("int8", 1),
    "INT16": ("int16", 2),
    "INT32": ("int32", 4),
    "INT64": ("int64", 8),
    "FP16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "FP32": ("float32", 4),
    "FP64": ("float64", 8),
}
_DATATYPES = {name: datatype for datatype, (name, _) in _NUMBERS.items()}
# Kinds of numpy arrays that hold texts or bytes: objects, bytes, str.
_TEXT_KINDS = "OSU"


@dataclass(frozen=True)
class Tensor:
    """A tensor without numpy. datatype: `FP32`, `INT64`, `BYTES`, … as `sensorium models show` lists them.

    content: the elements, little-endian, last axis first; each element of BYTES is preceded by its length in four bytes.

    Raises TypeError or ValueError if they are none, or do not fit together.
    """

    datatype: str
    shape: tuple[int, ...]
    content: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.content, bytes):
            raise TypeError(f"content: expected bytes, got {type(self.content).__name__}")
        try:
            shape = tuple(operator.index(length) for length in self.shape)
        except TypeError:
            raise TypeError(f"shape: expected whole numbers, got {self.shape!r}") from None
        if any(length < 0 for length in shape):
            raise ValueError(f"shape: expected lengths of 0 or more, got {list(shape)}")
        object.__setattr__(self, "shape", shape)
        if self.datatype == "BYTES":
            return  # counted when they are read
        if self.datatype not in _NUMBERS:
            raise ValueError(f"datatype: expected {', '.join(_NUMBERS)} or BYTES, got {self.datatype!r}")
        expected = math.prod(self.shape) * _NUMBERS[self.datatype][1]
        if len(self.content) != expected:
            raise ValueError(
                f"content: expected {expected} bytes of {self.datatype} {list(self.shape)}, got {len(self.content)}"
            )

    @staticmethod
    def of_array(array: Array) -> "Tensor":
        """A tensor of the elements of a numpy array. Raises TypeError for a kind of elements that no tensor has."""
        kind, name = str(array.dtype.kind), str(array.dtype.name)
        shape = tuple(array.shape)
        if kind in _TEXT_KINDS:
            return Tensor("BYTES", shape, b"".join(_with_length(one) for one in _flat(array)))
        if name not in _DATATYPES:
            raise TypeError(f"expected an array of {', '.join(_DATATYPES)}, str or bytes, got {name}")
        if sys.byteorder == "big" or array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        return Tensor(_DATATYPES[name], shape, array.tobytes())

    @staticmethod
    def of_strings(strings: Sequence[str | bytes], shape: Sequence[int] | None = None) -> "Tensor":
        """A BYTES tensor; shape: by default one axis."""
        content = b"".join(_with_length(one) for one in strings)
        return Tensor("BYTES", (len(strings),) if shape is None else tuple(shape), content)

    def strings(self) -> list[bytes]:
        """The elements of a BYTES tensor. Raises ValueError if it is none."""
        if self.datatype != "BYTES":
            raise ValueError(f"expected a tensor of BYTES, got {self.datatype}")
        found: list[bytes] = []
        at = 0
        while at < len(self.content):
            begin = at + 4
            at = begin + int.from_bytes(self.content[at:begin], "little")
            if max(begin, at) > len(self.content):
                raise ValueError(
                    f"content: expected whole elements, got one that is cut, number {len(found)}"
                )
            found.append(self.content[begin:at])
        if len(found) != math.prod(self.shape):
            raise ValueError(f"content: expected {math.prod(self.shape)} elements, got {len(found)}")
        return found

    def numpy(self) -> Any:
        """The elements as a numpy array, read-only; BYTES as objects, BF16 as float32. Raises ImportError without numpy."""
        try:
            import numpy as np  # optional, and late: nothing else here needs it
        except ImportError as error:
            raise ImportError("arrays need numpy: `pip install numpy`, or read `Tensor.content`") from error
        if self.datatype == "BYTES":
            objects = np.empty(len(strings := self.strings()), dtype=object)
            objects[:] = strings
            return objects.reshape(self.shape)
        if self.datatype == "BF16":
            # The upper half of a float32.
            wide = np.frombuffer(self.content, "<u2").astype(np.uint32) << np.uint32(16)
            return wide.view(np.float32).reshape(self.shape)
        kind = np.dtype(_NUMBERS[self.datatype][0]).newbyteorder("<")
        return np.frombuffer(self.content, kind).reshape(self.shape)


TensorLike: TypeAlias = Tensor | Array


@dataclass(frozen=True)
class Inference(Mapping[str, Any]):
    """What a model answered, by the names of its outputs: `answer["logits"]` is a numpy array, `answer.tensors` do without.

    error: why this message of a stream failed; the rest is empty then.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    model: Model = field(default_factory=Model)
    error: SensoriumError | None = None

    def __getitem__(self, name: str) -> Any:
        return self.tensors[name].numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def read_tensor(value: TensorLike) -> Tensor:
    """What a caller handed over, as a tensor. Raises TypeError."""
    if isinstance(value, Tensor):
        return value
    if not all(hasattr(value, name) for name in ("shape", "dtype", "tobytes")):
        raise TypeError(f"expected a numpy array or a sensorium.Tensor, got {type(value).__name__}")
    return Tensor.of_array(value)


def _flat(array: Any) -> Iterator[Any]:
    return iter(array.reshape(-1).tolist())


def _with_length(element: str | bytes) -> bytes:
    if isinstance(element, str):
        element = element.encode()
    if not isinstance(element, bytes):
        raise TypeError(f"expected elements of str or bytes, got {type(element).__name__}")
    return struct.pack("<I", len(element)) + element
