"""Execution providers: which of a list is chosen, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from shared.inference.session.opening import expect_provider
from shared.inference.session.providers import CPU, CUDA, OPENVINO, TENSORRT, make_options, select
from shared.inference.session.session import Session, SessionError
from tests.shared.inference.graphs import WEIGHTS, linear

AZURE = "AzureExecutionProvider"
X = np.ones((2, 16), np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear().content)
    return path


def test_a_provider_that_the_build_lacks_is_passed_over(file: Path) -> None:
    session = Session(file, (TENSORRT, CUDA, CPU))
    assert session.provider == CPU
    assert [passed.provider for passed in session.choice.passed_over] == [TENSORRT, CUDA]
    assert session.choice.explanation == (
        f"{TENSORRT}: not in this build of ONNX Runtime; {CUDA}: not in this build of ONNX Runtime"
    )
    (y,) = session.run({"x": X}, ["y"])
    np.testing.assert_array_equal(y, X @ WEIGHTS)


@pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(), reason="a provider that only this build has"
)
def test_a_provider_that_takes_no_node_is_passed_over_although_it_could_be_set_up(file: Path) -> None:
    session = Session(file, (AZURE, CPU))
    assert session.provider == CPU
    assert session.choice.explanation == f"{AZURE}: can run none of the graph's nodes"
    with pytest.raises(
        SessionError, match=rf"no execution provider can run model.onnx: {AZURE}: can run none"
    ):
        Session(file, (AZURE,))


def test_a_provider_whose_library_is_missing_is_passed_over_and_the_library_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The build says that it has CUDA, as one for GPUs does on a machine without: ONNX Runtime leaves it out by itself.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.warns(UserWarning, match="not in available provider names"):
        session = Session(file, (CUDA, CPU))
    assert session.provider == CPU
    assert f"{CUDA}: failed to initialise: " in session.choice.explanation
    assert "libonnxruntime_providers_cuda.so: cannot open shared object file" in session.choice.explanation


def test_a_provider_that_fails_when_the_session_is_made_hands_over_to_the_next(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a build with TensorRT raises where its libraries are not installed.
    make = onnxruntime.InferenceSession

    def fail_with_tensorrt(
        path: str, options: Any, providers: Sequence[tuple[str, dict[str, str]]], **more: Any
    ) -> Any:
        if providers[0][0] == TENSORRT:
            raise RuntimeError(
                "/o/state.cc:729 void python::Register(PyOptions&) Please install TensorRT libraries"
            )
        return make(path, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail_with_tensorrt)
    session = Session(file, (TENSORRT, CPU))
    assert session.provider == CPU
    assert (
        session.choice.explanation == f"{TENSORRT}: failed to initialise: Please install TensorRT libraries"
    )
    with pytest.raises(SessionError, match=r"model.onnx cannot be opened: Please install TensorRT"):
        Session(file, (TENSORRT,))


def test_a_list_of_which_nothing_is_here_is_refused_with_what_is_here(file: Path) -> None:
    with pytest.raises(SessionError, match=rf"expected one of .*{CPU}.*, got {CUDA}"):
        Session(file, (CUDA,))


def test_a_broken_file_is_not_blamed_on_the_provider(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(SessionError, match=r"broken.onnx cannot be opened: "):
        Session(path, (CUDA, CPU))


@pytest.mark.parametrize(
    ("wanted", "available", "usable", "missing"),
    [
        (("auto",), [CUDA, CPU], [CUDA, CPU], []),
        (("auto",), [TENSORRT, CPU], [CPU], []),
        ((TENSORRT, "auto"), [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU], []),
        ((CPU, CUDA, CPU), [CUDA, CPU], [CPU, CUDA], []),
        ((OPENVINO, CPU), [CPU], [CPU], [OPENVINO]),
    ],
)
def test_lists_are_cut_to_what_the_build_has(
    wanted: tuple[str, ...], available: list[str], usable: list[str], missing: list[str]
) -> None:
    got, passed_over = select(wanted, available)
    assert got == usable
    assert [passed.provider for passed in passed_over] == missing


def test_the_first_of_the_list_that_is_here_is_expected() -> None:
    assert expect_provider((CUDA, CPU)) == CPU
    assert expect_provider(("auto",)) == CPU
    assert expect_provider((CUDA,)) == CUDA


def test_options_that_matter_are_given(tmp_path: Path) -> None:
    def options(provider: str, precision: str | None = None, folder: Path | None = None) -> dict[str, str]:
        return make_options(provider, threads=3, precision=precision, cache_dir=folder)

    assert options(CPU) == {}
    assert options(CUDA)["use_tf32"] == "0"
    assert options(TENSORRT) == {"trt_fp16_enable": "0"}
    assert options(TENSORRT, "fp16", tmp_path)["trt_fp16_enable"] == "1"
    assert options(TENSORRT, None, tmp_path)["trt_engine_cache_path"] == str(tmp_path)
    assert options(OPENVINO, None, tmp_path) == {
        "device_type": "CPU",
        "num_of_threads": "3",
        "cache_dir": str(tmp_path),
    }
