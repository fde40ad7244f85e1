"""Safetensors files: read as written; damaged and hostile ones are refused before anything is copied."""

import json

import numpy as np
import pytest

from shared.inference.safetensors import read_safetensors


def write(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_tensors_are_read_by_name_and_shape() -> None:
    body = np.arange(6, dtype=np.float32).tobytes() + np.array([3, -1], np.int64).tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "ids": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
    }
    tensors = read_safetensors(write(header, body))
    assert sorted(tensors) == ["ids", "weight"]
    assert tensors["weight"].dtype == np.float32
    np.testing.assert_array_equal(tensors["weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["ids"], [3, -1])


def test_bfloat16_is_widened_exactly() -> None:
    values = np.array([1.0, -2.5, 0.0], np.float32)
    body = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {"weight": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    np.testing.assert_array_equal(read_safetensors(write(header, body))["weight"], values)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "at least 8 bytes"),
        (b"\xff" * 16, "header of"),
        ((4).to_bytes(8, "little") + b"nope", "no JSON"),
        (write([1, 2]), "expected an object"),
        (write({"w": {"dtype": "F32", "shape": [2]}}), "'w': expected dtype, shape and data_offsets"),
        (write({"w": 7}), "'w'"),
        (write({"w": {"dtype": "F8", "shape": [1], "data_offsets": [0, 1]}}, b"x"), "expected a dtype of"),
        (write({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"x" * 8), "does not fit"),
        (write({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}}, b"x" * 8), "does not fit"),
        (write({"w": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}, b"x" * 8), "whole numbers"),
        (write({"w": {"dtype": "F32", "shape": [10**12, 10**12], "data_offsets": [0, 8]}}, b"x" * 8), "does not fit"),
        (write({"w": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"x"), "whole numbers"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_safetensors(content)
