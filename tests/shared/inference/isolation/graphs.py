"""Real graphs that hang or crash ONNX Runtime, and answer well on small values."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest
from onnx import helper

from shared.inference.artifact import GraphDraft, Tensor
from tests.shared.inference.graphs import draft_graph

# The division that has no result: x86 processors answer it with SIGFPE, others with a number.
LOWEST = np.iinfo(np.int64).min
needs_trap = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="only x86 traps when the lowest integer is divided by -1",
)
# Side of the image for which `deaf` computes for hours.
HOURS = 4096


def crashing(max_batch_size: int = 8) -> GraphDraft:
    """y = -(x / -1), [N] to [N]: dividing LOWEST ends the process with SIGFPE."""
    return draft_graph(
        [helper.make_node("Div", ["x", "minus"], ["d"]), helper.make_node("Neg", ["d"], ["y"])],
        [Tensor("x", "INT64", (-1,))],
        [Tensor("y", "INT64", (-1,))],
        {"minus": np.array(-1)},
        max_batch_size=max_batch_size,
    )


def crashing_at_load() -> GraphDraft:
    """y = x + LOWEST / -1: the constants are divided when the graph is opened."""
    return draft_graph(
        [helper.make_node("Div", ["lowest", "minus"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])],
        [Tensor("x", "INT64", (-1,))],
        [Tensor("y", "INT64", (-1,))],
        {"lowest": np.array([LOWEST]), "minus": np.array([-1])},
    )


def deaf(max_batch_size: int = 8) -> GraphDraft:
    """y = x + 0 after one convolution of an empty image of max(x)² with one as large, [N] to [N].

    A run looks whether it shall end before each of its nodes, so within that one it does not.
    """
    nodes: list[Any] = [
        helper.make_node("ReduceMax", ["x"], ["side"], keepdims=1),
        helper.make_node("Concat", ["one", "one", "side", "side"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["image"]),
        helper.make_node("Conv", ["image", "image"], ["z"], auto_pad="SAME_UPPER"),
        helper.make_node("ReduceMax", ["z"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["nothing"], to=7),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    return draft_graph(
        nodes,
        [Tensor("x", "INT64", (-1,))],
        [Tensor("y", "INT64", (-1,))],
        {"one": np.array([1])},
        max_batch_size=max_batch_size,
    )
