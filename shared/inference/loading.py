"""From an artifact's folder to sessions that are known to give the right answers. Blocking; run off the event
loop.

Here: the order of checks (manifest, digests, sessions, signatures, golden outputs) and how golden outputs are
compared. Not here: which models there are and what becomes of one that fails (`repository.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.inference.artifact import Artifact, ArtifactError, Graph, read_artifact, verify
from shared.inference.datatypes import NUMPY_TYPES, Array
from shared.inference.manifest import Tolerance
from shared.inference.session import RunError, Session, quantizes_over_batch
from shared.inference.settings import InferenceSettings
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

# The provider whose tolerance holds for those that the artifact says nothing of.
_REFERENCE_PROVIDER = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph whose session is open and checked."""

    signature: Graph
    session: Session
    max_batch_size: int  # rows that may really run together; 0 = no batch axis


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An artifact all of whose graphs are open and checked."""

    artifact: Artifact
    graphs: Mapping[str, LoadedGraph]

    @property
    def provider(self) -> str:
        """Execution provider that runs it."""
        return next(iter(self.graphs.values())).session.provider


def load_model(folder: Path, service: str, settings: InferenceSettings) -> LoadedModel:
    """Read an artifact, check its files' digests, open its graphs and reproduce its golden outputs.

    Raises:
        ArtifactError: the artifact is damaged, of another service, or does not give its golden outputs.
        SessionError: a graph cannot be opened or is not what artifact.json says.
    """
    artifact = read_artifact(folder)
    if artifact.service != service:
        raise ArtifactError(f"artifact.json: service: expected {service!r}, got {artifact.service!r}")
    verify(artifact)
    graphs = {key: _load_graph(artifact, key, settings) for key in artifact.graphs}
    if settings.golden_check:
        golden = artifact.read_golden()
        for key, graph in graphs.items():
            _check_golden(artifact, key, graph, golden)
    return LoadedModel(artifact, graphs)


def _load_graph(artifact: Artifact, key: str, settings: InferenceSettings) -> LoadedGraph:
    signature, file = artifact.graphs[key], artifact.graph_file(key)
    session = Session(file, settings.providers, settings.intra_op_threads, spinning=settings.spinning)
    if session.fallback:
        _log.warning("execution provider fell back", model=artifact.name, graph=key, reason=session.fallback)
    session.check_signature(signature)
    max_batch_size = signature.max_batch_size
    if max_batch_size > 1 and quantizes_over_batch(file):
        # One scale over the whole batch: a row's answer would depend on who came with it.
        _log.info("graph quantizes over its batch, runs row by row", model=artifact.name, graph=key)
        max_batch_size = 1
    if max_batch_size and settings.max_batch_size:
        max_batch_size = min(max_batch_size, settings.max_batch_size)
    return LoadedGraph(signature, session, max_batch_size)


def _check_golden(artifact: Artifact, key: str, graph: LoadedGraph, golden: Mapping[str, Array]) -> None:
    """Compare one graph's outputs with the golden ones; where it batches, twice the rows must give them
    twice.

    Raises:
        ArtifactError: names graph, output, largest difference and tolerance.
    """
    inputs = _collect(golden, f"{key}/in/")
    expected = _collect(golden, f"{key}/out/")
    names = {tensor.name for tensor in graph.signature.inputs}
    if inputs.keys() != names or not expected:
        raise ArtifactError(
            f"golden.npz: graph {key!r}: expected inputs {sorted(names)} and at least one output, "
            f"got inputs {sorted(inputs)} and outputs {sorted(expected)}"
        )
    tolerances = artifact.manifest.golden.tolerance
    tolerance = tolerances.get(graph.session.provider) or tolerances.get(_REFERENCE_PROVIDER)
    if tolerance is None:
        raise ArtifactError(
            f"artifact.json: golden.tolerance: expected one for {graph.session.provider}, got none"
        )
    _compare(key, graph, inputs, expected, tolerance, "")
    rows = next(iter(inputs.values())).shape[0] if graph.max_batch_size else 0
    if rows and 2 * rows <= graph.max_batch_size:
        inputs = {name: np.concatenate([array, array]) for name, array in inputs.items()}
        expected = {name: np.concatenate([array, array]) for name, array in expected.items()}
        _compare(key, graph, inputs, expected, tolerance, " in a batch with its copy")


def _compare(
    key: str,
    graph: LoadedGraph,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: Tolerance,
    where: str,
) -> None:
    try:
        results = graph.session.run(inputs, list(expected))
    except RunError as error:
        raise ArtifactError(f"graph {key!r} fails on its golden inputs{where}: {error}") from error
    for (name, wanted), got in zip(expected.items(), results, strict=True):
        what = f"graph {key!r}, output {name!r}{where}"
        if got.shape != wanted.shape:
            raise ArtifactError(f"{what}: expected shape {list(wanted.shape)}, got {list(got.shape)}")
        if got.dtype.kind != "f":
            if not np.array_equal(got, wanted):
                count = int(np.count_nonzero(np.asarray(got != wanted)))
                raise ArtifactError(f"{what}: {count} of {wanted.size} values differ from the golden ones")
            continue
        close = np.isclose(got, wanted, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
        if not close.all():
            largest = float(np.abs(got.astype(np.float64) - wanted)[~close].max())
            raise ArtifactError(
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
