"""Golden outputs: whether a graph gives them, alone and in a batch, and how much a batch of it is worth.

Not here: opening graphs (`loading.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.inference.artifact import Artifact, ArtifactError, Graph
from shared.inference.datatypes import NUMPY_TYPES, Array
from shared.inference.isolation.loading import run_loading
from shared.inference.manifest import Precision, Tolerance
from shared.inference.session.session import RunError, Session

# The provider whose tolerance holds for those that the artifact says nothing of.
_REFERENCE_PROVIDER = "CPUExecutionProvider"
# A batch is large enough where the fixed part of a run is this share of its rows' part.
_FIXED_SHARE = 0.2
# Runs that are timed, of which the fastest counts; fewer where a graph is slow, for calls wait behind them.
_TIMED_RUNS, _TIMED_S = 5, 0.1
# But at least so long: of runs that take microseconds the first few find nothing in the processor's caches.
_LEAST_TIMED_S = 0.003


class GoldenError(ArtifactError):
    """A graph does not give its golden outputs; the text says where and by how much."""


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph whose session is open and checked."""

    signature: Graph
    session: Session
    max_batch_size: int  # rows that may really run together; 0 = no batch axis
    precision: Precision | None = None  # of the file that runs; None = not stated
    batch_wide: bool = False  # whether it quantizes over all rows of a run
    by_value: bool = False  # whether values may say how long a run takes

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run it as part of loading, see `run_loading`."""
        return run_loading(self.session, inputs, outputs)


def check_golden(
    artifact: Artifact, key: str, graph: LoadedGraph, golden: Mapping[str, Array]
) -> dict[str, Array]:
    """Compare one graph's outputs with the golden ones, alone and, where it batches, beside their own copy.

    Gives the golden inputs back.

    Raises:
        GoldenError: names graph, output, largest difference and tolerance.
    """
    inputs = _collect(golden, f"{key}/in/")
    expected = _collect(golden, f"{key}/out/")
    names = {tensor.name for tensor in graph.signature.inputs}
    if inputs.keys() != names or not expected:
        raise GoldenError(
            f"golden.npz: graph {key!r}: expected inputs {sorted(names)} and at least one output, "
            f"got inputs {sorted(inputs)} and outputs {sorted(expected)}"
        )
    tolerance = _find_tolerance(artifact, graph)
    _compare(key, graph, inputs, expected, tolerance, "")
    if _can_double(graph, inputs):
        _compare(key, graph, _double(inputs), _double(expected), tolerance, " in a batch with its copy")
    return inputs


def _find_tolerance(artifact: Artifact, graph: LoadedGraph) -> Tolerance:
    """What is stated for the provider, else for the reference; a variant needs a statement of its own precision."""
    stated = artifact.manifest.golden.tolerance
    own = graph.precision in (None, graph.signature.precision)
    suffix = "" if own else f"/{graph.precision}"
    for provider in (graph.session.provider, _REFERENCE_PROVIDER):
        if (tolerance := stated.get(f"{provider}{suffix}")) is not None:
            return tolerance
    raise GoldenError(
        f"artifact.json: golden.tolerance: expected one for {graph.session.provider}{suffix}, "
        f"got those for {', '.join(sorted(stated)) or 'none'}"
    )


@dataclass(frozen=True, slots=True)
class RunTimes:
    """How the time of a graph's runs splits in two, as measured on its golden inputs."""

    fixed_s: float
    per_row_s: float

    def worthwhile_rows(self, most: int) -> int:
        """Rows, at most so many, from which on the fixed part of a run is at most a fifth of the rows' part."""
        return min(max(int(self.fixed_s / (_FIXED_SHARE * self.per_row_s)), 1), most)

    def rows_within(self, seconds: float, most: int) -> int:
        """Rows, at most so many, whose run takes no longer; 0 where one takes longer."""
        if self.fixed_s + self.per_row_s > seconds:
            return 0
        return min(int((seconds - self.fixed_s) / self.per_row_s), most)


def measure_runs(graph: LoadedGraph, inputs: Mapping[str, Array]) -> RunTimes | None:
    """Time runs of golden inputs alone and beside their copy; None where no batch is too large, or none is possible.

    A graph that reads its weights or steps through time for any number of rows alike (LSTMs) has a large
    fixed part; a convolution on a CPU has almost none. Elsewhere than on a CPU no batch is too large.

    Raises:
        RunError: a run failed.
    """
    if graph.session.provider != _REFERENCE_PROVIDER or not _can_double(graph, inputs):
        return None
    rows = int(next(iter(inputs.values())).shape[0])
    one_s, two_s = _time_runs(graph, inputs, _double(inputs))
    per_row_s = max((two_s - one_s) / rows, 1e-9)
    return RunTimes(max(one_s - per_row_s * rows, 0.0), per_row_s)


def _time_runs(graph: LoadedGraph, one: Mapping[str, Array], two: Mapping[str, Array]) -> tuple[float, float]:
    """CPU seconds of this thread for runs of each input, the least of a few taken in turns.

    Other models load at the same time: they make a run wait, which CPU time does not count.
    """
    outputs = [tensor.name for tensor in graph.signature.outputs]
    one_s = two_s = math.inf
    begun_s, runs = time.perf_counter(), 0
    while runs < _TIMED_RUNS or time.perf_counter() - begun_s < _LEAST_TIMED_S:
        runs += 1
        for inputs in (one, two):
            started_s = time.thread_time()
            graph.run(inputs, outputs)
            taken_s = time.thread_time() - started_s
            if inputs is one:
                one_s = min(one_s, taken_s)
            else:
                two_s = min(two_s, taken_s)
        if time.perf_counter() - begun_s > _TIMED_S:
            break
    return one_s, two_s


def _can_double(graph: LoadedGraph, inputs: Mapping[str, Array]) -> bool:
    if graph.max_batch_size < 2 or not inputs:
        return False  # without a batch axis an input may have no axis at all
    return 0 < 2 * int(next(iter(inputs.values())).shape[0]) <= graph.max_batch_size


def _double(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.concatenate([array, array]) for name, array in arrays.items()}


def _compare(
    key: str,
    graph: LoadedGraph,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: Tolerance,
    where: str,
) -> None:
    try:
        results = graph.run(inputs, list(expected))
    except RunError as error:
        raise GoldenError(f"graph {key!r} fails on its golden inputs{where}: {error}") from error
    for (name, wanted), got in zip(expected.items(), results, strict=True):
        what = f"graph {key!r}, output {name!r}{where}"
        if got.shape != wanted.shape:
            raise GoldenError(f"{what}: expected shape {list(wanted.shape)}, got {list(got.shape)}")
        if got.dtype.kind != "f":
            if not np.array_equal(got, wanted):
                count = int(np.count_nonzero(np.asarray(got != wanted)))
                raise GoldenError(f"{what}: {count} of {wanted.size} values differ from the golden ones")
            continue
        close = np.isclose(got, wanted, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
        if not close.all():
            largest = float(np.abs(got.astype(np.float64) - wanted)[~close].max())
            raise GoldenError(
                f"{what}: max difference {largest:.3g} from the golden output, tolerance "
                f"{tolerance.rtol:g} relative + {tolerance.atol:g} absolute ({graph.session.provider})"
            )


def _collect(golden: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """The golden arrays under a prefix; text, which .npz holds in fixed width, as ONNX Runtime takes it."""
    found = {}
    for name, array in golden.items():
        if name.startswith(prefix):
            if array.dtype.kind == "S":
                array = np.char.decode(array)
            found[name.removeprefix(prefix)] = (
                array.astype(NUMPY_TYPES["BYTES"]) if array.dtype.kind == "U" else array
            )
    return found
