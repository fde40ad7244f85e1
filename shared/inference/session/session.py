"""One graph in ONNX Runtime: how it is opened, run and what its failures say.

Here: session options, execution providers, the check of the file's signature. Not here: batches, queues,
threads.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from shared.inference.datatypes import NUMPY_TYPES, ONNX_TYPES, Array
from shared.inference.manifest import Graph, Tensor
from shared.inference.session.bf16 import run_bf16

RunOptions: TypeAlias = onnxruntime.RunOptions

# What ONNX Runtime raises: each of its status codes is a class of its own, without a common parent.
_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(onnxruntime_errors, name)
    for name in (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "ModelLoaded",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
)
_CPU = "CPUExecutionProvider"
# Operators that take one scale over the whole batch, so that a row's answer would depend on its batch-mates.
_BATCH_WIDE = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul", b"DynamicQuantizeLSTM")
# How much of ONNX Runtime's text a caller may see.
_REASON_CHARACTERS = 200
_OUT_OF_MEMORY = re.compile(r"failed to allocate memory|bad_alloc|out of memory", re.IGNORECASE)
# "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code … Status Message: <what we want>"
_STATUS_MESSAGE = re.compile(r"^.*?Status Message: ", re.DOTALL)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
# "/path/reshape_helper.h:47 onnxruntime::ReshapeHelper::ReshapeHelper(…) input_shape_size == size was false.
# <what we want>"
_SOURCE_LINE = re.compile(r"^\S+\.(?:cc|h|cpp|hpp):\d+ .*? was false\. ", re.DOTALL)


class SessionError(Exception):
    """A graph cannot be opened, or its file is not what artifact.json says; the text is the reason."""


class RunError(Exception):
    """A run failed. The text is what ONNX Runtime said of the values, without its own code's names."""

    def __init__(self, reason: str, *, out_of_memory: bool) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


class Session:
    """A graph ready to run. Opening blocks, up to seconds; `run` may be called from several threads."""

    def __init__(
        self,
        file: Path,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        intra_op_threads: int = 1,
        *,
        spinning: bool = False,
        shapes_vary: bool = False,
    ) -> None:
        """Open a graph.

        `providers` are tried in order; those that this build or machine lacks are passed over, see
        `fallback`. With `spinning`, idle threads of the session wait in a loop instead of sleeping.
        `shapes_vary` is `Graph.shapes_vary`: whether runs differ in more than their rows.

        Raises:
            SessionError: the file cannot be read as a graph, or no provider can run it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        # Graphs run node after node; more inter-op threads would only contend with the intra-op ones.
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        # A plan per shape lays a run out as one block, which the blocks kept of other shapes seldom fit. Over
        # 90 pages of all sizes the text detector and reader kept 1.35 GB and grew with plans, 0.85 GB without,
        # at 0 to 8 % more CPU; graphs whose rows alone differ would pay 5 to 9 % for little.
        options.enable_mem_pattern = not shapes_vary
        # Failures come back as exceptions; ONNX Runtime's own log to stderr would repeat them.
        options.log_severity_level = 4
        available = onnxruntime.get_available_providers()
        usable = [name for name in providers if name in available]
        if not usable:
            raise SessionError(
                f"no execution provider: expected one of {', '.join(available)}, got {', '.join(providers)}"
            )
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=usable)
        except _ERRORS as error:
            raise SessionError(f"{file.name} cannot be opened: {_shorten(str(error))}") from error
        # A failed provider must not be swapped for another in the middle of a call, unseen.
        self._session.disable_fallback()
        self.provider: str = self._session.get_providers()[0]
        self.fallback: str = (
            f"{providers[0]} is not usable here, runs on {self.provider}"
            if self.provider != providers[0]
            else ""
        )
        self.inputs = tuple(_read_tensor(argument) for argument in self._session.get_inputs())
        self.outputs = tuple(_read_tensor(argument) for argument in self._session.get_outputs())
        self._bf16_inputs = frozenset(tensor.name for tensor in self.inputs if tensor.dtype == "BF16")
        self._has_bf16 = bool(self._bf16_inputs) or any(tensor.dtype == "BF16" for tensor in self.outputs)
        self.plans_memory: bool = self._session.get_session_options().enable_mem_pattern

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], options: RunOptions | None = None
    ) -> list[Array]:
        """Run the graph: the named outputs in their order, in memory of their own. Blocks, without the GIL.

        Setting `options.terminate` from another thread ends the run early, with a RunError.

        Raises:
            RunError: the graph failed on these values.
        """
        try:
            if self._has_bf16:
                return run_bf16(self._session, inputs, outputs, options, self._bf16_inputs)
            return self._session.run(outputs, inputs, options)  # type: ignore[no-any-return]
        except _ERRORS as error:
            text = str(error)
            raise RunError(_shorten(text), out_of_memory=bool(_OUT_OF_MEMORY.search(text))) from error

    def close(self) -> None:
        """Free the graph's weights and all memory of its runs, whoever still names this object. Blocks, up to 20 ms.

        Nothing may run on it any more, now or later.
        """
        self._session = None

    def release_memory(self) -> None:
        """Give back what ONNX Runtime keeps of earlier runs, all that the largest of them needed. Blocks, some ms.

        Its only way is an option of a run, so one is made of the smallest inputs and told to end before its
        first node. The next run pays for the pages again: up to 40 % more CPU where a run is mostly memory (the
        text detector: 400 MB, 54 ms of 270), nothing that could be measured elsewhere. So it is for a session
        at rest, not for every run. The first block that a session ever took stays, which holds its weights or
        what the golden outputs needed. Sessions of other providers keep what they have.
        """
        if self.provider != _CPU or any(tensor.dtype not in NUMPY_TYPES for tensor in self.inputs):
            return
        smallest: dict[str, Array] = {
            tensor.name: np.full(
                [max(axis, 1) for axis in tensor.shape],
                "" if tensor.dtype == "BYTES" else 0,
                NUMPY_TYPES[tensor.dtype],
            )
            for tensor in self.inputs
        }
        options = RunOptions()
        options.terminate = True
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with contextlib.suppress(RunError):  # it says that it was told to end
            self.run(smallest, [tensor.name for tensor in self.outputs], options)

    def check_signature(self, graph: Graph) -> None:
        """Compare the file's inputs and outputs with what artifact.json says of them.

        Raises:
            SessionError: names the tensor, what artifact.json expects and what the file has.
        """
        for side, stated, present in (
            ("input", graph.inputs, self.inputs),
            ("output", graph.outputs, self.outputs),
        ):
            by_name = {tensor.name: tensor for tensor in present}
            if side == "input" and (more := sorted(by_name.keys() - {tensor.name for tensor in stated})):
                raise SessionError(f"{graph.file}: input {more[0]!r} is not stated in artifact.json")
            for tensor in stated:
                got = by_name.get(tensor.name)
                if got is None:
                    raise SessionError(
                        f"{graph.file}: expected {side} {tensor.name!r}, got {', '.join(sorted(by_name))}"
                    )
                if got.dtype != tensor.dtype or not _fits(tensor.shape, got.shape):
                    raise SessionError(
                        f"{graph.file}: {side} {tensor.name!r}: expected {tensor.dtype} {list(tensor.shape)},"
                        f" got {got.dtype} {list(got.shape)}"
                    )


def quantizes_over_batch(file: Path) -> bool:
    """Whether a graph holds an operator whose scale is taken over the whole batch (dynamic quantization).

    In an .onnx file the operator's name lies as a field of its node, tag 0x22 and its length before it; in an
    .ort file as plain text. Neither format is parsed, so that serving needs no graph library.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in _BATCH_WIDE:
            wanted = name if file.suffix == ".ort" else bytes((0x22, len(name))) + name
            if content.find(wanted) >= 0:
                return True
    return False


def _read_tensor(argument: Any) -> Tensor:
    """ONNX Runtime's description of a tensor; named axes are dynamic."""
    # A scalar may have no shape; a type outside the protocol keeps ONNX Runtime's name and fits no stated
    # one.
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else -1 for axis in argument.shape or ())
    return Tensor(argument.name, ONNX_TYPES.get(argument.type, argument.type), shape)


def _fits(stated: tuple[int, ...], present: tuple[int, ...]) -> bool:
    """Whether a stated shape is one that the file allows: the same rank, no other number on a fixed axis.

    A file may leave an axis open that artifact.json fixes, and name the shape of an output loosely or not at
    all.
    """
    if not present:
        return True
    return len(stated) == len(present) and all(
        -1 in (ours, theirs) or ours == theirs for ours, theirs in zip(stated, present, strict=True)
    )


def _shorten(text: str) -> str:
    text = _PREFIX.sub("", _STATUS_MESSAGE.sub("", text))
    text = _SOURCE_LINE.sub("", text).strip()
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]}…"
