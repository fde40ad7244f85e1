"""Graphs of BF16, which numpy does not have, give the bits that they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from shared.inference.datatypes import widen
from shared.inference.manifest import Tensor
from shared.inference.session.session import RunError, Session
from tests.shared.inference.graphs import draft_graph, identity


def open_session(tmp_path: Path, content: bytes) -> Session:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    return Session(file)


def test_every_bit_pattern_comes_through(tmp_path: Path) -> None:
    session = open_session(tmp_path, identity("BF16").content)
    assert [tensor.dtype for tensor in (*session.inputs, *session.outputs)] == ["BF16", "BF16"]
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    (got,) = session.run({"x": every}, ["y"])
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, every)
    # Wherever the elements lie.
    (got,) = session.run({"x": every.T}, ["y"])
    np.testing.assert_array_equal(got, every.T)
    session.release_memory()


def test_it_stands_beside_other_types(tmp_path: Path) -> None:
    draft = draft_graph(
        [
            helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "scale"], ["y"]),
            helper.make_node("Cast", ["y"], ["z"], to=TensorProto.BFLOAT16),
        ],
        [Tensor("x", "BF16", (-1, 3)), Tensor("scale", "FP32", (-1, 1))],
        [Tensor("y", "FP32", (-1, 3)), Tensor("z", "BF16", (-1, 3))],
    )
    session = open_session(tmp_path, draft.content)
    x = np.array([[0x3F80, 0x4000, 0xC040]], np.uint16)  # 1, 2, -3
    y, z = session.run({"x": x, "scale": np.array([[2]], np.float32)}, ["y", "z"])
    np.testing.assert_array_equal(y, np.array([[2, 4, -6]], np.float32))
    np.testing.assert_array_equal(widen("BF16", z), y)
    with pytest.raises(RunError):
        session.run({"x": x, "scale": np.ones((1, 2), np.float32)}, ["y"])
