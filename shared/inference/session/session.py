"""One graph in ONNX Runtime: how it is opened, run and what its failures say.

Here: running, memory, the check of the file's signature. Not here: how a session is opened (`opening.py`), batches,
queues.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime

from shared.inference.datatypes import NUMPY_TYPES, ONNX_TYPES, Array
from shared.inference.manifest import Graph, Tensor
from shared.inference.session.bf16 import run_bf16
from shared.inference.session.binding import run_bound
from shared.inference.session.failure import ERRORS, RunError, SessionError
from shared.inference.session.graph_cache import GraphCache
from shared.inference.session.opening import Opening, open_graph, open_optimized, write_optimized
from shared.inference.session.providers import CPU
from shared.telemetry.logging import get_logger

__all__ = ["RunError", "RunOptions", "Session", "SessionError"]

_log = get_logger("inference")

RunOptions: TypeAlias = onnxruntime.RunOptions

# An optimised graph that saves less than a tenth is not worth its place on the disk.
_SHARE = 0.9


class Session:
    """A graph ready to run. Opening blocks, up to seconds; `run` may be called from several threads."""

    def __init__(
        self,
        file: Path,
        providers: Sequence[str] = (CPU,),
        intra_op_threads: int = 1,
        *,
        spinning: bool = False,
        shapes_vary: bool = False,
        precision: str | None = None,
        cache: GraphCache | None = None,
        digest: str = "",
    ) -> None:
        """Open a graph.

        `providers` are tried in order; those that this build or machine lacks are passed over, see `choice`.
        With `spinning`, idle threads of the session wait in a loop instead of sleeping.
        `shapes_vary` is `Graph.shapes_vary`: whether runs differ in more than their rows. `precision` is told
        to providers that can compute in another than the file's. `cache` holds optimised graphs of artifacts by
        their `digest`.

        Raises:
            SessionError: the file cannot be read as a graph, or no provider can run it.
        """
        self._file = file
        # For the log: model, version and file, without where the state folder is.
        self._short_name = "/".join(file.parts[-3:])
        self._opening = Opening(
            providers=tuple(providers),
            threads=intra_op_threads,
            spinning=spinning,
            shapes_vary=shapes_vary,
            precision=precision,
            cache=cache,
            digest=digest,
        )
        opened = open_graph(file, self._opening)
        self._session: onnxruntime.InferenceSession | None = opened.session
        self._cached, self._cpu_s = opened.cached, opened.cpu_s
        self.choice = opened.choice
        self.provider: str = opened.choice.provider
        self.threads: int = intra_op_threads
        self.from_cache: bool = opened.from_cache
        self.inputs = tuple(_read_tensor(argument) for argument in opened.session.get_inputs())
        self.outputs = tuple(_read_tensor(argument) for argument in opened.session.get_outputs())
        self._bf16_inputs = frozenset(tensor.name for tensor in self.inputs if tensor.dtype == "BF16")
        self._has_bf16 = bool(self._bf16_inputs) or any(tensor.dtype == "BF16" for tensor in self.outputs)
        # Text lies in no memory of a device.
        self._binds = self.provider != CPU and all(
            tensor.dtype != "BYTES" for tensor in (*self.inputs, *self.outputs)
        )
        self.plans_memory: bool = opened.session.get_session_options().enable_mem_pattern

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], options: RunOptions | None = None
    ) -> list[Array]:
        """Run the graph: the named outputs in their order, in memory of their own. Blocks, without the GIL.

        Setting `options.terminate` from another thread ends the run early, with a RunError.

        Raises:
            RunError: the graph failed on these values, or was closed.
        """
        session = self._session
        if session is None:
            raise RunError("the graph was closed", out_of_memory=False)
        return self._run(session, inputs, outputs, options)

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        options: RunOptions | None = None,
    ) -> list[Array]:
        try:
            if self._has_bf16:
                return run_bf16(session, inputs, outputs, options, self._bf16_inputs)
            if self._binds:
                return run_bound(session, inputs, outputs, options)
            return session.run(outputs, inputs, options)  # type: ignore[no-any-return]
        except ERRORS as error:
            raise RunError.explain(error) from error

    def close(self) -> None:
        """Free the graph's weights and all memory of its runs, whoever still names this object. Blocks, up to 20 ms.

        A run that is at work ends first, on its thread.
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
        if self.provider != CPU or any(tensor.dtype not in NUMPY_TYPES for tensor in self.inputs):
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

    def keep_optimized(self, inputs: Mapping[str, Array], *, share: float = _SHARE) -> None:
        """Keep the graph as ONNX Runtime has optimised it for the next start, if that pays. Blocks, up to seconds.

        Done once, by measuring: kept is what gives, on `inputs`, bit for bit what this session gives, and opens in
        at most this `share` of its CPU time, the check of its digest counted in. A failure is logged; the session is not
        touched.
        """
        cached = self._cached
        if cached is None or self.provider != CPU or self.from_cache or cached.is_known:
            return
        try:
            with cached.writing() as path:
                write_optimized(self._file, self._opening, path)
                begun_s = time.thread_time()
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                session = open_optimized(path, self._opening)
                cpu_s = time.thread_time() - begun_s
                facts = {"plain_s": round(self._cpu_s, 4), "cached_s": round(cpu_s, 4)}
                names = [tensor.name for tensor in self.outputs]
                if not _equal_bits(self._run(session, inputs, names), self.run(inputs, names)):
                    reason = "its outputs differ"
                else:
                    reason = "it does not open faster" if cpu_s > share * self._cpu_s else ""
                if reason:
                    cached.refuse(reason, facts)
                    _log.info("optimised graph is not kept", file=self._short_name, reason=reason, **facts)
                else:
                    cached.keep(path, sha256, facts)
                    _log.info("optimised graph is kept", file=self._short_name, **facts)
        except (OSError, SessionError, RunError) as error:
            _log.warning("optimised graph is not kept", file=self._short_name, reason=str(error))

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


def _equal_bits(ones: Sequence[Array], others: Sequence[Array]) -> bool:
    return all(
        one.shape == other.shape
        and (np.array_equal(one, other) if one.dtype.hasobject else one.tobytes() == other.tobytes())
        for one, other in zip(ones, others, strict=True)
    )


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
