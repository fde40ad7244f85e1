"""What goes wrong with a session, in words that a user can read.

Here: the two exceptions, what ONNX Runtime raises, and its texts without its own code's names.
"""

from __future__ import annotations

import re

from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

# What ONNX Runtime raises: each of its status codes is a class of its own, without a common parent.
ERRORS: tuple[type[Exception], ...] = tuple(
    one for one in vars(onnxruntime_errors).values() if isinstance(one, type) and issubclass(one, Exception)
)
# How much of ONNX Runtime's text a caller may see.
_REASON_CHARACTERS = 200
_OUT_OF_MEMORY = re.compile(r"failed to allocate memory|bad_alloc|out of memory", re.IGNORECASE)
# "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code … Status Message: <what we want>"
_STATUS_MESSAGE = re.compile(r"^.*?Status Message: ", re.DOTALL)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
# "Load model from /path/model.onnx failed:<what we want>"
_LOADING = re.compile(r"^Load model from .*? failed:", re.DOTALL)
# What is said of an opset that is too new takes 600 characters to the point.
_OPSET = re.compile(r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)", re.DOTALL)
# "/path/reshape_helper.h:47 onnxruntime::ReshapeHelper::ReshapeHelper(…) input_shape_size == size was false.
# <what we want>", "/path/state.cc:729 void onnxruntime::python::Register(…) <what we want>", or a chain of such places.
_SOURCE_LINES = re.compile(
    r"^.*\.(?:cc|h|cpp|hpp):\d+ .*?(?:was false\. |[)\]] (?:\[[\w-]+\] )?(?=[A-Z]))", re.DOTALL
)


class SessionError(Exception):
    """A graph cannot be opened, or its file is not what artifact.json says; the text is the reason."""


class RunError(Exception):
    """A run failed. The text is what ONNX Runtime said of the values, without its own code's names."""

    def __init__(self, reason: str, *, out_of_memory: bool) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory

    @classmethod
    def explain(cls, error: Exception) -> RunError:
        """The error of a run, made of what ONNX Runtime raised."""
        text = str(error)
        return cls(shorten(text), out_of_memory=bool(_OUT_OF_MEMORY.search(text)))


def shorten(text: str) -> str:
    """What ONNX Runtime says of the matter itself, at most some 200 characters."""
    text = _LOADING.sub("", _PREFIX.sub("", _STATUS_MESSAGE.sub("", text)))
    if (opset := _OPSET.search(text)) is not None:
        return f"expected opset {opset[3]} of {opset[2]} or lower, got opset {opset[1]}; export it for a lower one"
    text = _SOURCE_LINES.sub("", text).strip()
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]}…"
