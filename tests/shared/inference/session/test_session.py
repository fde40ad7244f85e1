"""What a file must be to become a session, and what is said of one that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from shared.inference.artifact import GraphDraft, Tensor
from shared.inference.manifest import Graph
from shared.inference.session.operators import quantizes_over_batch, works_by_value
from shared.inference.session.session import RunError, Session, SessionError
from tests.shared.inference.graphs import (
    batch_wide,
    hungry,
    identity,
    linear,
    picky,
    signature_of,
    slow,
    two_of_each,
)
from tests.support.memory import resident_bytes


def save(folder: Path, draft: GraphDraft) -> Path:
    file = folder / draft.file
    file.write_bytes(draft.content)
    return file


def test_providers_that_are_missing_are_passed_over_and_said(tmp_path: Path) -> None:
    session = Session(save(tmp_path, linear()), ("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert session.provider == "CPUExecutionProvider"
    assert session.choice.explanation == "CUDAExecutionProvider: not in this build of ONNX Runtime"
    assert Session(save(tmp_path, linear())).choice.explanation == ""


def test_no_usable_provider_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"expected one of .*CPUExecutionProvider.*, got NoSuchProvider"):
        Session(save(tmp_path, linear()), ("NoSuchProvider",))


@pytest.mark.parametrize("content", [b"", b"not a graph", linear().content[:50]])
def test_a_file_that_is_no_graph_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    with pytest.raises(SessionError, match=r"broken\.onnx cannot be opened"):
        Session(file)


def test_a_failed_run_says_what_was_wrong_with_the_values_only(tmp_path: Path) -> None:
    session = Session(save(tmp_path, picky()))
    with pytest.raises(RunError, match="idx=9") as failed:
        session.run({"x": np.array([9])}, ["y"])
    assert "onnxruntime" not in str(failed.value).lower()
    assert not failed.value.out_of_memory


@pytest.mark.parametrize(
    ("draft", "vary"),
    [
        (linear(), False),  # [rows, 16]: only the rows differ
        (two_of_each(), True),  # [rows, any]
        (linear(max_batch_size=0), True),  # the first axis is not the rows
    ],
)
def test_memory_is_planned_only_where_shapes_recur(tmp_path: Path, draft: GraphDraft, vary: bool) -> None:
    graph = signature_of(draft)
    assert graph.shapes_vary is vary
    session = Session(save(tmp_path, draft), shapes_vary=graph.shapes_vary)
    assert session.plans_memory is not vary


def test_released_memory_goes_back_to_the_system_and_the_session_runs_on(tmp_path: Path) -> None:
    session = Session(save(tmp_path, hungry()), shapes_vary=True)
    session.run({"x": np.ones((1, 1, 1), np.float32)}, ["y"])  # as loading does
    x = np.ones((2, 8192, 1), np.float32)  # 256 MiB on the way
    for _ in range(2):
        before = resident_bytes()
        (y,) = session.run({"x": x}, ["y"])
        assert y.shape == x.shape
        assert (y == 4096).all()
        kept = resident_bytes()
        assert kept - before > 200 * 2**20
        session.release_memory()
        assert kept - resident_bytes() > 200 * 2**20


@pytest.mark.parametrize("dtype", ["BYTES", "BOOL", "FP16", "INT64"])
def test_memory_of_any_datatype_is_released_without_a_word(tmp_path: Path, dtype: str) -> None:
    session = Session(save(tmp_path, identity(dtype)))
    session.release_memory()
    assert session.inputs[0].dtype == dtype


def test_a_signature_that_differs_names_the_tensor(tmp_path: Path) -> None:
    session = Session(save(tmp_path, linear()))
    session.check_signature(signature_of(linear()))
    x, y = linear().inputs[0], linear().outputs[0]
    for inputs, outputs, reason in (
        ((Tensor("z", "FP32", (-1, 16)),), (y,), "input 'x' is not stated"),
        ((x, Tensor("z", "FP32", (-1, 16))), (y,), "expected input 'z', got x"),
        ((Tensor("x", "INT64", (-1, 16)),), (y,), r"input 'x': expected INT64 \[-1, 16\], got FP32"),
        ((Tensor("x", "FP32", (-1, 8)),), (y,), r"input 'x': expected FP32 \[-1, 8\], got FP32 \[-1, 16\]"),
        ((x,), (Tensor("y", "FP32", (-1, 2, 2)),), r"output 'y': expected FP32 \[-1, 2, 2\]"),
    ):
        stated = Graph(file="model.onnx", inputs=inputs, outputs=outputs, max_batch_size=1)
        with pytest.raises(SessionError, match=reason):
            session.check_signature(stated)


def test_graphs_whose_values_say_how_long_they_run_are_found(tmp_path: Path) -> None:
    assert works_by_value(save(tmp_path, slow()))
    assert not works_by_value(save(tmp_path, linear()))


def test_dynamic_quantization_is_found_in_both_formats(tmp_path: Path) -> None:
    assert quantizes_over_batch(save(tmp_path, batch_wide()))
    assert not quantizes_over_batch(save(tmp_path, linear()))
    for draft, expected in ((batch_wide(), True), (identity("FP32"), False)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "model.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(draft.content, options, providers=["CPUExecutionProvider"])
        assert quantizes_over_batch(tmp_path / "model.ort") is expected
        assert Session(tmp_path / "model.ort").inputs[0].name == "x"


def test_dynamic_quantization_does_depend_on_batch_mates(tmp_path: Path) -> None:
    """Why such graphs run row by row: the same row, beside a loud one, comes out otherwise."""
    session = Session(save(tmp_path, batch_wide()))
    row = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    alone = session.run({"x": row}, ["y"])[0]
    beside = session.run({"x": np.concatenate([row, 100 * row])}, ["y"])[0][:1]
    assert np.abs(alone - beside).max() > 0.01


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = Session(save(tmp_path, linear()))
    session.close()
    with pytest.raises(RunError, match="the graph was closed"):
        session.run({"x": np.ones((1, 16), np.float32)}, ["y"])
