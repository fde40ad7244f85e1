"""Tensors of arrays, and arrays of tensors."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sensorium import Tensor
from sensorium.tensor import Inference


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("bool", "BOOL"), ("uint8", "UINT8"), ("uint16", "UINT16"), ("uint32", "UINT32"), ("uint64", "UINT64"),
        ("int8", "INT8"), ("int16", "INT16"), ("int32", "INT32"), ("int64", "INT64"),
        ("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64"),
    ],
)  # fmt: skip
def test_numbers_come_back_as_they_were(dtype: str, datatype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    tensor = Tensor.of_array(array)
    assert (tensor.datatype, tensor.shape) == (datatype, (2, 3))
    back = tensor.numpy()
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.arange(12, dtype=np.float32)[::2],
        np.float64(3.5) * np.ones(()),
    ],
)
def test_the_layout_in_memory_does_not_matter(array: np.ndarray) -> None:
    np.testing.assert_array_equal(Tensor.of_array(array).numpy(), array)


def test_another_byte_order_is_turned() -> None:
    tensor = Tensor.of_array(np.array([1, 2], dtype=">i4"))
    assert tensor.content == struct.pack("<2i", 1, 2)


@pytest.mark.parametrize("array", [np.array(["a", "bcd", "é"]), np.array([b"a", "bcd", "é"], dtype=object)])
def test_texts(array: np.ndarray) -> None:
    tensor = Tensor.of_array(array)
    assert (tensor.datatype, tensor.strings()) == ("BYTES", [b"a", b"bcd", "é".encode()])
    assert tensor == Tensor.of_strings(["a", "bcd", "é"])
    assert list(tensor.numpy()) == [b"a", b"bcd", "é".encode()]


def test_halves_of_floats() -> None:
    tensor = Tensor("BF16", (2,), struct.pack("<2H", 0x3F80, 0xC000))
    assert tensor.numpy().tolist() == [1.0, -2.0]


def test_what_is_no_tensor() -> None:
    with pytest.raises(ValueError, match=r"content: expected 24 bytes of FP32 \[2, 3\], got 3"):
        Tensor("FP32", (2, 3), b"abc")
    with pytest.raises(ValueError, match="datatype: expected BOOL"):
        Tensor("float32", (1,), b"abcd")
    with pytest.raises(TypeError, match="got complex128"):
        Tensor.of_array(np.zeros(2, complex))
    with pytest.raises(TypeError, match="str or bytes, got float"):
        Tensor.of_array(np.array(["a", 1.5], dtype=object))
    with pytest.raises(ValueError, match="expected 3 elements, got 1"):
        Tensor("BYTES", (3,), b"\1\0\0\0a").strings()
    with pytest.raises(ValueError, match="expected a tensor of BYTES, got INT8"):
        Tensor("INT8", (1,), b"a").strings()


def test_an_answer_is_a_mapping() -> None:
    answer = Inference({"one": Tensor("INT8", (2,), b"\1\2"), "two": Tensor("INT8", (0,), b"")})
    assert list(answer) == ["one", "two"]
    assert answer["one"].tolist() == [1, 2]
    with pytest.raises(KeyError):
        answer["three"]


def test_neither_numpy_nor_the_stubs_of_tensors_are_imported_until_they_are_used() -> None:
    # What another client of the protocol brings along must not be there twice, and numpy is not asked for.
    said = (
        "import sys; from sensorium import AsyncClient, Client, Tensor; Client('127.0.0.1:1', token='').close(); "
        "sys.exit(any(name.startswith(('numpy', 'sensorium.oip')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", said], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("shape", "content", "error", "says"),
    [
        ((1.0,), b"abcd", TypeError, "shape: expected whole numbers, got"),
        ("12", b"abcd", TypeError, "shape: expected whole numbers, got '12'"),
        (1, b"abcd", TypeError, "shape: expected whole numbers, got 1"),
        ((-1, -1), b"abcd", ValueError, "shape: expected lengths of 0 or more"),
        ((1,), "abcd", TypeError, "content: expected bytes, got str"),
        ((1,), bytearray(4), TypeError, "content: expected bytes, got bytearray"),
    ],
)
def test_what_is_no_tensor_is_named(shape: Any, content: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        Tensor("FP32", shape, content)


def test_a_shape_may_be_of_any_whole_numbers() -> None:
    assert Tensor("INT8", [np.int64(2), 1], b"ab") == Tensor("INT8", (2, 1), b"ab")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"abc", b"\1\0\0\0", b"\1\0\0\0a\2\0\0\0b", b"\xff\xff\xff\xffa"])
def test_texts_that_are_cut_are_no_texts(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected whole elements, got one that is cut"):
        Tensor("BYTES", (2,), content).strings()
