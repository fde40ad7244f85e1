"""A model that serves: one artifact, its graphs, each with its session and its batcher.

Not here: how it came to be (`repository/loading.py`), which models there are (`repository/repository.py`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sensorium.types.v1 import model_pb2

from shared.errors import NotFound
from shared.inference.artifact import Artifact
from shared.inference.batching.batcher import Answer, Batcher
from shared.inference.cache import ResponseCache
from shared.inference.datatypes import Array
from shared.inference.isolation.isolation import Isolation
from shared.inference.repository.golden import LoadedGraph, measure_runs
from shared.inference.repository.loading import LoadedModel
from shared.inference.session.cores import CoreBudget
from shared.inference.settings import ModelSettings
from shared.rpc.caller import Priority, current_caller
from shared.rpc.deadline import Deadline

__all__ = ["Answer", "Model", "ServedGraph"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ServedGraph:
    """One graph of a model, ready to run. Whoever holds one keeps it so: a version ends once nobody does."""

    name: str  # as the Open Inference Protocol knows it: `<model>`, or `<model>.<graph>` where there are several
    loaded: LoadedGraph
    batcher: Batcher
    artifact: Artifact
    settings: ModelSettings
    tuned: Mapping[str, float]  # those of the settings that were found by tuning
    cache: ResponseCache | None  # the model's, None where nothing is kept
    isolation: Isolation

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: Deadline,
        *,
        priority: Priority | None = None,
    ) -> Coroutine[Any, Any, Answer]:
        """Run it on one item, see `Batcher.submit`, or find what it gave for an equal one.

        A call that another replica had before is first looked into, see `Isolation.check_retried`.
        """
        if current_caller().retried:
            return self._infer_retried(inputs, outputs, deadline, priority)
        return self._infer(inputs, outputs, deadline, priority)

    async def _infer_retried(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: Deadline,
        priority: Priority | None,
    ) -> Answer:
        await self.isolation.check_retried(self.artifact.name, self.artifact.digest)
        return await self._infer(inputs, outputs, deadline, priority)

    def _infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: Deadline,
        priority: Priority | None,
    ) -> Coroutine[Any, Any, Answer]:
        if self.cache is None:
            return self.batcher.submit(inputs, outputs, deadline, priority=priority)
        return self.cache.infer(self.name, self.batcher, inputs, outputs, deadline, priority=priority)


class Model:
    """One version of a model that answers. Made on the event loop from what was loaded off it.

    Whoever holds one keeps it so: a version that was replaced ends once nobody holds it or one of its graphs.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        isolation: Isolation | None = None,
        cores: CoreBudget | None = None,
    ) -> None:
        """`isolation` and `cores` are the process's, None where there is no need of any: in tests and tools."""
        self._cores = cores
        self._isolation = isolation or Isolation.off()
        self.artifact = loaded.artifact
        self.provider = loaded.provider
        self.provider_reason = loaded.provider_reason
        self.tuned = loaded.tuned
        self.signed_by = loaded.signed_by
        own = loaded.settings
        self.cache: ResponseCache | None = None
        if own.cache_bytes:
            self.cache = ResponseCache(
                own.cache_bytes,
                digest=self.artifact.digest,
                model=self.name,
                version=self.artifact.version,
            )
        self.graphs: Mapping[str, ServedGraph] = {
            key: self._serve(key, graph, own) for key, graph in loaded.graphs.items()
        }

    @property
    def name(self) -> str:
        """Public name, `<service>/<model>`."""
        return f"{self.artifact.service}/{self.artifact.name}"

    def ref(self) -> model_pb2.ModelRef:
        """Name and version as typed replies state them."""
        return model_pb2.ModelRef(name=self.name, version=self.artifact.version)

    async def infer(
        self,
        inputs: Mapping[str, Array],
        *,
        graph: str = "",
        outputs: Sequence[str] = (),
        deadline: Deadline,
        priority: Priority | None = None,
    ) -> Answer:
        """Run one graph on one item, see `Batcher.submit`.

        `inputs` holds every input with its batch axis where the graph has one: an image is [1, 3, 224, 224].
        `graph` may be left out where there is only one; no `outputs` means all; no `priority` means the caller's.

        Raises:
            NotFound: there is no such graph, or several and none is named.
            InvalidArgument, ResourceExhausted, DeadlineExceeded, Unavailable: as `Batcher.submit`.
        """
        served = next(iter(self.graphs.values())) if not graph and len(self.graphs) == 1 else None
        if served is None:
            served = self.graphs.get(graph)
        if served is None:
            raise NotFound(f"graph of model {self.name}", graph, known=list(self.graphs))
        return await served.infer(inputs, outputs, deadline, priority=priority)

    def measure_batches(self, inputs: Mapping[str, Mapping[str, Array]]) -> None:
        """Find out how large a batch of each graph is worth its while. Blocks, up to 0.2 s per graph.

        `inputs` are the golden ones by graph. The model may answer calls meanwhile; until a graph is measured,
        any batch of it is held to be worthwhile.

        Raises:
            RunError: a run failed.
        """
        for key, values in inputs.items():
            graph = self.graphs[key]
            times = measure_runs(graph.loaded, values)
            graph.loaded.session.keep_optimized(values)
            graph.loaded.session.release_memory()
            if times is not None:
                row_cost = graph.batcher.count_cost({name: array[:1] for name, array in values.items()})
                rows = times.worthwhile_rows(graph.loaded.max_batch_size)
                graph.batcher.worthwhile_cost = rows * row_cost
                graph.batcher.pace.seed(times.fixed_s, times.per_row_s / row_cost)
                # Runs on the event loop must not take longer than those that were measured.
                if not graph.loaded.signature.shapes_vary and not graph.loaded.by_value:
                    graph.batcher.express_rows = times.rows_within(
                        graph.settings.express_run_s, graph.loaded.max_batch_size
                    )

    async def close(self) -> None:
        """End the batchers; who waits is told that the model is unavailable."""
        if self.cache is not None:
            self.cache.clear()
        await asyncio.gather(*(graph.batcher.close() for graph in self.graphs.values()))

    def _serve(self, key: str, graph: LoadedGraph, settings: ModelSettings) -> ServedGraph:
        name = graph_name(self.artifact, key)
        batcher = Batcher(
            graph.session,
            graph.signature,
            name=f"{self.artifact.service}/{name}",
            model=self.name,
            version=self.artifact.version,
            max_batch_size=graph.max_batch_size,
            max_queue_size=settings.max_queue_size,
            max_queue_delay_s=settings.max_queue_delay_s,
            target_batch_s=settings.target_batch_s,
            worthwhile_cost=math.inf,
            instances=settings.instances,
            core_budget=self._cores,
            threads=settings.intra_op_threads,
            make_guard=partial(
                self._isolation.guard, self.name, self.artifact.version, name, self.artifact.digest
            ),
        )
        return ServedGraph(
            name, graph, batcher, self.artifact, settings, self.tuned, self.cache, self._isolation
        )


def graph_name(artifact: Artifact, graph: str) -> str:
    """The name under which a graph answers Open Inference Protocol calls."""
    return artifact.name if len(artifact.graphs) == 1 else f"{artifact.name}.{graph}"
