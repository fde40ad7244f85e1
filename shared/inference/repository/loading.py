"""From an artifact's folder to sessions that are known to give the right answers. Blocking; run off the event
loop.

Here: the order of checks (manifest, who signed it, quarantine, room, digests, sessions, their inputs and outputs, golden
outputs). Not
here: how golden outputs are compared (`golden.py`), what becomes of a model that fails (`upkeep.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.inference.artifact import Artifact, ArtifactError, read_artifact, verify
from shared.inference.datatypes import Array
from shared.inference.isolation.isolation import Isolation
from shared.inference.repository.golden import LoadedGraph, check_golden
from shared.inference.repository.room import check_room, measure_room
from shared.inference.session.graph_cache import GraphCache
from shared.inference.session.opening import expect_provider
from shared.inference.session.operators import quantizes_over_batch, works_by_value
from shared.inference.session.session import Session
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.inference.signature import check_signature
from shared.inference.tuning.record import TunedFolder
from shared.rpc.allocator import give_back_free_memory
from shared.settings import state_dir
from shared.telemetry.logging import get_logger

_log = get_logger("inference")


class QuarantinedError(Exception):
    """A model must not be loaded, for what it did to the process before; the text is the reason."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An artifact all of whose graphs are open and checked."""

    artifact: Artifact
    settings: ModelSettings
    tuned: Mapping[str, float]  # those of the settings that were found by tuning
    graphs: Mapping[str, LoadedGraph]
    golden_inputs: Mapping[str, Mapping[str, Array]]  # by graph; none without the check
    signed_by: str  # id of the key; empty = nobody

    @property
    def provider(self) -> str:
        """Execution provider that runs it."""
        return next(iter(self.graphs.values())).session.provider

    @property
    def provider_reason(self) -> str:
        """Which providers were passed over and why, and what else runs nodes; by graph where graphs differ."""
        reasons = {key: graph.session.choice.explanation for key, graph in self.graphs.items()}
        if len(set(reasons.values())) == 1:
            return next(iter(reasons.values()))
        return "; ".join(f"graph {key}: {reason}" for key, reason in reasons.items() if reason)


def load_model(folder: Path, service: str, settings: InferenceSettings, isolation: Isolation) -> LoadedModel:
    """Read an artifact, check its signature and its files' digests, open its graphs and reproduce its golden outputs.

    Every file is read once for its digest, and the graphs once more to be opened.

    Raises:
        SignatureError: nobody who is trusted has signed it, or it was changed since.
        ArtifactError: the artifact is damaged, of another service, or does not give its golden outputs.
        QuarantinedError: it hung or crashed the process before.
        RoomError: it does not fit into what memory is left.
        SessionError: a graph cannot be opened or is not what artifact.json says.
    """
    artifact = read_artifact(folder)
    if artifact.service != service:
        raise ArtifactError(f"artifact.json: service: expected {service!r}, got {artifact.service!r}")
    key_id = check_signature(artifact, settings.signature)
    named = f"{service}/{artifact.name}", artifact.version, artifact.digest
    if (reason := isolation.quarantined(*named)) is not None:
        raise QuarantinedError(reason)
    check_room(artifact, measure_room())
    verify(artifact)
    with isolation.loading(*named):
        own, tuned, graphs = _open(artifact, settings)
        inputs: dict[str, Mapping[str, Array]] = {}
        if settings.golden_check:
            golden = artifact.read_golden()
            inputs = {key: check_golden(artifact, key, graph, golden) for key, graph in graphs.items()}
    # The files were read and the weights laid out anew.
    give_back_free_memory()
    return LoadedModel(artifact, own, tuned, graphs, inputs, key_id or "")


def _open(
    artifact: Artifact, settings: InferenceSettings
) -> tuple[ModelSettings, Mapping[str, float], dict[str, LoadedGraph]]:
    """The settings that hold, those of them that were found by tuning, and the graphs, opened with them."""
    cache = None
    if settings.graph_cache_bytes:
        cache = GraphCache(state_dir() / "optimized", max_bytes=settings.graph_cache_bytes)
    folder = TunedFolder(state_dir())
    provider = expect_provider(settings.for_model(artifact.name).providers)
    while True:
        tuned = folder.find(artifact.name, artifact.digest, provider)
        own = settings.for_model(artifact.name, None if tuned is None else tuned.best.values)
        graphs = {key: _load_graph(artifact, key, own, cache) for key in artifact.graphs}
        got = next(iter(graphs.values())).session.provider
        # What was found for a provider that has failed just now says nothing of the one that runs instead.
        if got == provider or (tuned is None and folder.find(artifact.name, artifact.digest, got) is None):
            break
        provider = got
    if tuned is None:
        return own, {}, graphs
    found = settings.list_tuned(artifact.name, tuned.best.values)
    if tuned.cores != settings.cores:
        _log.info(
            "tuned with another number of cores",
            model=artifact.name,
            tuned_cores=tuned.cores,
            cores=settings.cores,
        )
    _log.info("model is tuned", model=artifact.name, measured_at=tuned.measured_at, **found)
    return own, found, graphs


def _load_graph(
    artifact: Artifact, key: str, settings: ModelSettings, cache: GraphCache | None
) -> LoadedGraph:
    signature = artifact.graphs[key]
    precision = signature.find_precision(settings.precision)
    file = artifact.folder / signature.find_file(precision)
    session = Session(
        file,
        settings.providers,
        settings.intra_op_threads,
        spinning=settings.spinning,
        shapes_vary=signature.shapes_vary,
        precision=precision,
        cache=cache,
        digest=artifact.digest,
    )
    where = {"model": artifact.name, "graph": key}
    if session.choice.passed_over:
        provider, reason = session.provider, session.choice.explanation
        _log.warning("execution provider fell back", **where, provider=provider, reason=reason)
    if settings.precision not in (None, precision):
        _log.warning(
            "precision is not to be had", **where, wanted=settings.precision, got=precision or "as exported"
        )
    session.check_signature(signature)
    max_batch_size = signature.max_batch_size
    batch_wide = quantizes_over_batch(file)
    if max_batch_size > 1 and batch_wide:
        # One scale over the whole batch: a row's answer would depend on who came with it.
        _log.info("graph quantizes over its batch, runs row by row", **where)
        max_batch_size = 1
    if max_batch_size and settings.max_batch_size:
        max_batch_size = min(max_batch_size, settings.max_batch_size)
    by_value = works_by_value(file)
    return LoadedGraph(signature, session, max_batch_size, precision, batch_wide, by_value)
