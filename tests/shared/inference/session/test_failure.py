"""ONNX Runtime's texts without its own code's names."""

import pytest

from shared.inference.session.failure import RunError, shorten


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running Reshape node. "
            "Name:'a' Status Message: /o/core/providers/cpu/tensor/reshape_helper.h:47 "
            "onnxruntime::ReshapeHelper::ReshapeHelper(const TensorShape&, TensorShapeVector&, bool) "
            "input_shape_size == size was false. The input tensor cannot be reshaped",
            "The input tensor cannot be reshaped",
        ),
        (
            "/o/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::RegisterTensorRTPluginsAsCustomOps("
            "PySessionOptions&, const onnxruntime::ProviderOptions&) Please install TensorRT libraries",
            "Please install TensorRT libraries",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /o/openvino/basic_backend.cc:136 "
            "onnxruntime::openvino_ep::BasicBackend::BasicBackend(std::unique_ptr<onnx::ModelProto>&, ptr_stream_t&) "
            "/o/openvino/ov_interface.cc:28 auto onnxruntime::openvino_ep::OvExceptionBoundary(Func&&, Args&& ...) "
            "[with bool typed = false; Args = {}] [OpenVINO-EP] Exception while Reading network: "
            "Exception from src/graph_cache.cpp:27:\nchunks node not found in graph cache\n\n",
            "Exception while Reading network: Exception from src/graph_cache.cpp:27:\nchunks node not found in graph cache",
        ),
        ("plain words (of any kind) stay", "plain words (of any kind) stay"),
    ],
)
def test_what_is_said_of_the_matter_stays(text: str, expected: str) -> None:
    assert shorten(text) == expected


def test_long_texts_are_cut() -> None:
    assert shorten("x" * 500) == "x" * 200 + "…"


@pytest.mark.parametrize(
    ("text", "expected"), [("Failed to allocate memory for buffer", True), ("no such index", False)]
)
def test_want_of_memory_is_told_from_other_failures(text: str, expected: bool) -> None:
    assert RunError.explain(RuntimeError(text)).out_of_memory is expected
