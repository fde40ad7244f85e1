"""The course of a tuning: everything once, and what may be best again, there and back, until the figures are medians.

Not here: one measurement (`measure.py`), what is tried and chosen (`grid.py`).
"""

from __future__ import annotations

import asyncio
import datetime
import statistics
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

from cli.tune.grid import choose, is_too_slow, keep_hopeful, list_batches, list_shapes
from cli.tune.measure import Bench, Workload
from shared.inference.isolation.isolation import Isolation
from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.repository.loading import LoadedModel, load_model
from shared.inference.session.cores import CoreBudget
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.inference.tuning.values import Candidate, Figures, Tuned, TunedValues

# A batch is never cut short while it is measured how large it should be.
_NO_TARGET_S = 3600.0


class Watcher(Protocol):
    """Told of each step."""

    def plan(self, steps: int) -> None:
        """So many measurements are expected in all, as far as is known now."""

    def advance(self, values: TunedValues, figures: Figures) -> None:
        """One measurement is done."""


class NothingFitsError(Exception):
    """No set of values answers within the latency target; holds the one that comes nearest."""

    def __init__(self, nearest: Candidate, candidates: int) -> None:
        super().__init__(f"none of {candidates} sets of values is within the target")
        self.nearest = nearest
        self.candidates = candidates


async def tune(
    folder: Path,
    service: str,
    settings: InferenceSettings,
    *,
    target_s: float,
    rounds: int,
    window_s: float,
    watcher: Watcher,
) -> Tuned:
    """Measure an artifact on this machine and choose. Takes about a second per set of values and round.

    Raises:
        ArtifactError, SessionError, RoomError: the artifact cannot be loaded.
        NothingFitsError: see there.
    """
    cores = CoreBudget(settings.cores)
    shapes = list_shapes(settings.cores)
    loaded: dict[int, LoadedModel] = {}
    async with AsyncExitStack() as stack:
        benches: dict[TunedValues, Bench] = {}
        seen: dict[TunedValues, list[Figures]] = {}
        workload: Workload | None = None
        for threads, instances in shapes:
            if threads not in loaded:
                loaded[threads] = await _load(folder, service, settings, threads, first=not loaded)
                stack.callback(_close, loaded[threads])
            if workload is None:
                workload = Workload(loaded[threads])
            most = max(graph.max_batch_size for graph in loaded[threads].graphs.values())
            batches = list_batches(most)
            watcher.plan(len(shapes) * len(batches) * rounds)
            for batch in batches:
                values = TunedValues(
                    max_batch_size=batch,
                    target_batch_s=_NO_TARGET_S,
                    intra_op_threads=threads,
                    instances=instances,
                )
                bench = benches[values] = Bench.start(loaded[threads], workload, values, cores)
                stack.push_async_callback(bench.close)
                await bench.prepare()
                seen[values] = [await bench.measure(window_s)]
                watcher.advance(values, seen[values][-1])
                if is_too_slow(Candidate(values=values, figures=seen[values][-1]), target_s):
                    break
        hopeful: list[TunedValues] = []
        # Again where those that looked best came out worse: the next best may now be better.
        while more := [each for each in keep_hopeful(_summarize(seen), target_s) if each not in hopeful]:
            hopeful += more
            watcher.plan(len(seen) + len(hopeful) * (rounds - 1))
            for number in range(1, rounds):
                # There and back, so that what the machine does meanwhile falls on all alike.
                for values in more if number % 2 else reversed(more):
                    seen[values].append(await benches[values].measure(window_s))
                    watcher.advance(values, seen[values][-1])
    candidates = _summarize(seen)
    # Only what was measured as often as the others may win.
    best = choose([each for each in candidates if each.values in hopeful], target_s)
    if best is None:
        raise NothingFitsError(min(candidates, key=lambda each: each.figures.latency_s), len(candidates))
    return _describe(next(iter(loaded.values())), settings, target_s, best, candidates)


async def _load(
    folder: Path, service: str, settings: InferenceSettings, threads: int, *, first: bool
) -> LoadedModel:
    """The artifact in sessions of so many threads; its golden outputs are checked once."""
    said = settings.models.get(folder.parent.name, ModelSettings())
    own = {name: getattr(said, name) for name in said.model_fields_set}
    own |= {
        "intra_op_threads": threads,
        "instances": 1,
        "max_batch_size": None,
        "target_batch_s": _NO_TARGET_S,
    }
    fixed = settings.model_copy(
        update={
            "models": {**settings.models, folder.parent.name: ModelSettings.model_validate(own)},
            "golden_check": first,
            "graph_cache_bytes": 0,
        }
    )
    return await asyncio.to_thread(load_model, folder, service, fixed, Isolation.off())


def _close(loaded: LoadedModel) -> None:
    for graph in loaded.graphs.values():
        graph.session.close()


def _summarize(seen: Mapping[TunedValues, list[Figures]]) -> list[Candidate]:
    return [
        Candidate(
            values=values,
            figures=Figures(
                **{
                    name: statistics.median(getattr(each, name) for each in figures)
                    for name in Figures.model_fields
                }
            ),
        )
        for values, figures in seen.items()
    ]


def _describe(
    loaded: LoadedModel,
    settings: InferenceSettings,
    target_s: float,
    best: Candidate,
    candidates: list[Candidate],
) -> Tuned:
    artifact = loaded.artifact

    def aim(candidate: Candidate) -> Candidate:
        # What serves must not run longer than what was asked for; measuring, it could.
        values = candidate.values.model_copy(update={"target_batch_s": target_s})
        return candidate.model_copy(update={"values": values})

    return Tuned(
        model=f"{artifact.service}/{artifact.name}",
        version=artifact.version,
        digest=artifact.digest,
        runtime=describe_runtime(),
        provider=loaded.provider,
        cpu=describe_cpu(),
        cores=settings.cores,
        measured_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        latency_target_s=target_s,
        best=aim(best),
        candidates=tuple(aim(each) for each in candidates),
    )
