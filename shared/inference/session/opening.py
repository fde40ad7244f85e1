"""From a graph's file to a session of ONNX Runtime: options, providers tried in order, the optimised graph.

Not here: running (`session.py`), what providers are called and take (`providers.py`), the cache's files
(`graph_cache.py`).
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from shared.inference.session.failure import ERRORS, SessionError, shorten
from shared.inference.session.graph_cache import CachedGraph, GraphCache
from shared.inference.session.providers import COMPILING, CPU, Choice, PassedOver, make_options, select

# A provider that cannot be set up raises what pybind makes of its C++ exception, or is left out of the session.
SETUP_ERRORS: tuple[type[Exception], ...] = (*ERRORS, RuntimeError, ValueError)
_RECORD_NODES = "session.record_ep_graph_assignment_info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a graph is to be opened."""

    providers: tuple[str, ...] = (CPU,)
    threads: int = 1
    spinning: bool = False
    shapes_vary: bool = False
    precision: str | None = None
    cache: GraphCache | None = None
    digest: str = ""  # of the artifact; without it nothing is kept


@dataclass(frozen=True, slots=True)
class Opened:
    """A session, what runs it, and how it came to be."""

    session: onnxruntime.InferenceSession
    choice: Choice
    cached: CachedGraph | None  # the place of its optimised graph, None where none is kept
    from_cache: bool
    cpu_s: float  # CPU time that opening took this thread


def expect_provider(providers: Sequence[str]) -> str:
    """The provider with which a graph is tried first: the first that this build has, else the first of all."""
    usable, _ = select(providers, onnxruntime.get_available_providers())
    return usable[0] if usable else providers[0]


def open_graph(file: Path, opening: Opening) -> Opened:
    """Open a graph with the first of its providers that can be set up here and takes nodes of it.

    Raises:
        SessionError: the file cannot be read as a graph, or no provider can run it.
    """
    usable, passed_over = select(opening.providers, onnxruntime.get_available_providers())
    if not usable:
        raise SessionError(
            "no execution provider: expected one of "
            f"{', '.join(onnxruntime.get_available_providers())}, got {', '.join(opening.providers)}"
        )
    for index, provider in enumerate(usable):
        cached = _find_place(file, opening, provider)
        begun_s = time.thread_time()
        try:
            session, from_cache = _open_cached(file, opening, usable[index:], cached)
        except SETUP_ERRORS as error:
            if provider == usable[-1]:
                raise SessionError(f"{file.name} cannot be opened: {shorten(str(error))}") from error
            passed_over.append(PassedOver(provider, f"failed to initialise: {shorten(str(error))}"))
            continue
        cpu_s = time.thread_time() - begun_s
        nodes = _count_nodes(session, provider)
        if provider not in session.get_providers():
            passed_over.append(PassedOver(provider, f"failed to initialise: {_find_cause(provider)}"))
        elif nodes and provider not in nodes:
            passed_over.append(PassedOver(provider, "can run none of the graph's nodes"))
        else:
            # A failed provider must not be swapped for another in the middle of a call, unseen.
            session.disable_fallback()
            return Opened(session, Choice(provider, nodes, tuple(passed_over)), cached, from_cache, cpu_s)
    raise SessionError(f"no execution provider can run {file.name}: {'; '.join(map(str, passed_over))}")


def open_optimized(path: Path, opening: Opening) -> onnxruntime.InferenceSession:
    """Open a graph that was optimised before, on the CPU.

    Raises:
        SessionError: it cannot be read.
    """
    options = _make_session_options(opening)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _open_on_cpu(path, options)


def write_optimized(file: Path, opening: Opening, path: Path) -> None:
    """Optimise a graph for this CPU and write it down.

    Raises:
        SessionError: it cannot be optimised or written.
    """
    options = _make_session_options(opening)
    options.optimized_model_filepath = str(path)
    _open_on_cpu(file, options)


def _find_place(file: Path, opening: Opening, provider: str) -> CachedGraph | None:
    """Where what is made of a graph is kept; what .ort files hold is optimised already."""
    if opening.cache is None or not opening.digest or (provider == CPU and file.suffix == ".ort"):
        return None
    if provider != CPU and provider not in COMPILING:
        return None
    options: dict[str, str | int | bool] = dict(
        make_options(provider, threads=0, precision=opening.precision, cache_dir=None)
    )
    options |= {"session.precision": opening.precision or "", "session.optimization": "all"}
    return opening.cache.entry(opening.digest, file.name, provider=provider, options=options)


def _open_cached(
    file: Path, opening: Opening, usable: list[str], cached: CachedGraph | None
) -> tuple[onnxruntime.InferenceSession, bool]:
    """A session with the first of the providers, from its optimised graph if there is one that can be read."""
    if usable[0] == CPU and cached is not None and (path := cached.find()) is not None:
        try:
            return open_optimized(path, opening), True
        except SessionError as error:
            cached.remove(str(error))
    options = _make_session_options(opening)
    if usable != [CPU]:
        options.add_session_config_entry(_RECORD_NODES, "1")
    providers = []
    for name in usable:
        compiled = cached.make_folder() if cached is not None and name in COMPILING else None
        made = make_options(name, threads=opening.threads, precision=opening.precision, cache_dir=compiled)
        providers.append((name, made))
    # Without the fallback of ONNX Runtime's own: it prints to stdout, and hides which provider failed and why.
    return onnxruntime.InferenceSession(str(file), options, providers=providers, enable_fallback=0), False


def _make_session_options(opening: Opening) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = opening.threads
    # Graphs run node after node; more inter-op threads would only contend with the intra-op ones.
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if opening.spinning else "0")
    # A plan per shape lays a run out as one block, which the blocks kept of other shapes seldom fit. Over
    # 90 pages of all sizes the text detector and reader kept 1.35 GB and grew with plans, 0.85 GB without,
    # at 0 to 8 % more CPU; graphs whose rows alone differ would pay 5 to 9 % for little.
    options.enable_mem_pattern = not opening.shapes_vary
    # Failures come back as exceptions; ONNX Runtime's own log to stderr would repeat them.
    options.log_severity_level = 4
    return options


def _open_on_cpu(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[CPU], enable_fallback=0)
    except SETUP_ERRORS as error:
        raise SessionError(f"{path.name} cannot be opened: {shorten(str(error))}") from error


def _count_nodes(session: onnxruntime.InferenceSession, provider: str) -> Mapping[str, int]:
    """Nodes of the graph by the provider that runs them, the asked one first; none where that is not known.

    A provider that is set up may still leave every node to others: `get_providers` does not tell.
    """
    if provider == CPU:
        return {}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(sorted(counts.items(), key=lambda found: found[0] != provider))


def _find_cause(provider: str) -> str:
    """Why ONNX Runtime left a provider out, which it says on stderr only: mostly a library that is missing."""
    name = provider.removesuffix("ExecutionProvider").lower()
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return "ONNX Runtime left it out, its log on stderr says why; is there a device for it?"
