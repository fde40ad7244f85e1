"""Runs with inputs and outputs bound to a device, on the one that is here."""

import numpy as np
import onnxruntime
import pytest

from shared.inference.session.binding import run_bound
from tests.shared.inference.graphs import WEIGHTS, linear, picky, slow, two_of_each


def open_graph(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_it_gives_what_a_plain_run_gives_in_memory_of_its_own() -> None:
    session = open_graph(linear().content)
    x = np.random.default_rng(1).random((5, 16), np.float32)
    (y,) = run_bound(session, {"x": x}, ["y"], None)
    np.testing.assert_array_equal(y, session.run(["y"], {"x": x})[0])
    before = y.copy()
    run_bound(session, {"x": x * 2}, ["y"], None)
    np.testing.assert_array_equal(y, before)


def test_outputs_come_in_the_order_in_which_they_are_asked_for() -> None:
    session = open_graph(two_of_each().content)
    inputs = {"a": np.full((1, 2), 5, np.float32), "b": np.full((1, 2), 3, np.float32)}
    difference, total = run_bound(session, inputs, ["difference", "sum"], None)
    assert difference.tolist() == [[2, 2]]
    assert total.tolist() == [[8, 8]]
    (only,) = run_bound(session, inputs, ["sum"], None)
    assert only.tolist() == [[8, 8]]


def test_an_input_that_does_not_lie_in_one_piece_is_copied() -> None:
    session = open_graph(linear().content)
    x = np.arange(64, dtype=np.float32).reshape(2, 32)[:, ::2]
    (y,) = run_bound(session, {"x": x}, ["y"], None)
    np.testing.assert_array_equal(y, np.ascontiguousarray(x) @ WEIGHTS)


def test_failures_are_those_of_a_plain_run() -> None:
    session = open_graph(picky().content)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run_bound(session, {"x": np.array([99])}, ["y"], None)


def test_a_run_can_be_told_to_end() -> None:
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate"):
        run_bound(open_graph(slow().content), {"x": np.array([10**9])}, ["y"], options)
