"""One set of values under load: a model with real batchers and sessions, closed-loop callers, and what they saw.

Not here: which values are tried (`grid.py`), in which order (`rounds.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shared.inference.datatypes import Array
from shared.inference.model import Model
from shared.inference.repository.loading import LoadedModel
from shared.inference.session.cores import CoreBudget
from shared.inference.tuning.values import Figures, TunedValues
from shared.rpc.deadline import Deadline

# So many callers per row that may run at a time: the next batch is complete when the one before it ends.
_CALLERS_PER_ROW = 2
# Share of a window that is not counted: queues fill, caches warm.
_WARM_UP = 0.25
# A window ends when every caller has been answered, but not later than so many windows.
_LONGEST_WINDOWS = 10
# For how much of a window, and how many items at least, one caller is alone.
_ALONE, _ALONE_ITEMS = 0.3, 5
# No item is expected to take so long; without a bound a hanging graph would hold the command.
_ITEM_S = 300.0


class Workload:
    """Items made of a model's golden inputs: single rows where a graph has a batch axis, else all of them.

    An item of a model with several graphs is one run of each, one after another.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """Raises ValueError for a model that was loaded without its golden inputs."""
        self.golden = loaded.golden_inputs
        if not self.golden:
            raise ValueError("golden inputs: expected some of every graph, got none")
        self._items: dict[str, Sequence[Mapping[str, Array]]] = {}
        for key, inputs in self.golden.items():
            rows = 1 if not loaded.graphs[key].max_batch_size else len(next(iter(inputs.values())))
            whole = not loaded.graphs[key].max_batch_size
            self._items[key] = [
                inputs if whole else {name: array[row : row + 1] for name, array in inputs.items()}
                for row in range(rows)
            ]

    async def run(self, model: Model, number: int) -> int:
        """One item; gives the rows of the batch that its first graph ran in."""
        deadline = Deadline.after(_ITEM_S)
        sizes = []
        for key, items in self._items.items():
            answer = await model.infer(items[number % len(items)], graph=key, deadline=deadline)
            sizes.append(answer.batch_size)
        return sizes[0]


@dataclass(frozen=True, slots=True)
class Bench:
    """One set of values, ready to be measured as often as wanted. `close` it."""

    values: TunedValues
    model: Model
    workload: Workload

    @classmethod
    def start(cls, loaded: LoadedModel, workload: Workload, values: TunedValues, cores: CoreBudget) -> Bench:
        """Serve a model with these values; it was loaded with their threads. On the event loop."""
        settings = loaded.settings.model_copy(
            update={**values.model_dump(), "max_queue_size": 1_000_000, "cache_bytes": 0}
        )
        graphs = {
            key: replace(graph, max_batch_size=min(graph.max_batch_size, values.max_batch_size))
            for key, graph in loaded.graphs.items()
        }
        return cls(values, Model(replace(loaded, settings=settings, graphs=graphs), None, cores), workload)

    async def measure(self, window_s: float) -> Figures:
        """What callers see for some `window_s` seconds when every instance is busy, and then one caller alone."""
        callers = _CALLERS_PER_ROW * self.values.max_batch_size * self.values.instances
        busy = await self._run_callers(callers, window_s, callers)
        alone = await self._run_callers(1, _ALONE * window_s, _ALONE_ITEMS)
        return Figures(
            items_per_s=len(busy.latencies_s) / busy.elapsed_s,
            latency_s=_find_percentile(busy.latencies_s, 0.95),
            alone_s=statistics.median(alone.latencies_s),
            cpu_s_per_item=busy.cpu_s / len(busy.latencies_s),
            rows=statistics.fmean(busy.sizes),
        )

    async def prepare(self) -> None:
        """What loading does of it when a service starts: how long runs take."""
        await asyncio.to_thread(self.model.measure_batches, self.workload.golden)

    async def close(self) -> None:
        """End its threads."""
        await self.model.close()

    async def _run_callers(self, callers: int, window_s: float, least: int) -> _Seen:
        seen, numbers = _Seen(least), itertools.count()
        over = asyncio.Event()

        async def call() -> None:
            while not over.is_set():
                begun_s = time.perf_counter()
                size = await self.workload.run(self.model, next(numbers))
                seen.add(time.perf_counter() - begun_s, size)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(call())
            await asyncio.sleep(_WARM_UP * window_s)
            seen.begin()
            await asyncio.sleep(window_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seen.enough.wait(), _LONGEST_WINDOWS * window_s)
            # Slower than that it still has to answer once, for there to be a figure.
            await seen.any.wait()
            seen.end()
            over.set()
        return seen


class _Seen:
    """What callers saw between `begin` and `end`."""

    def __init__(self, enough: int) -> None:
        self._enough = enough
        self.enough, self.any = asyncio.Event(), asyncio.Event()
        self.latencies_s: list[float] = []
        self.sizes: list[int] = []
        self.elapsed_s = self.cpu_s = 0.0
        self._counts = False

    def begin(self) -> None:
        self._counts = True
        self._begun_s, self._begun_cpu_s = time.perf_counter(), time.process_time()

    def add(self, latency_s: float, size: int) -> None:
        if self._counts:
            self.latencies_s.append(latency_s)
            self.sizes.append(size)
            self.any.set()
            if len(self.sizes) >= self._enough:
                self.enough.set()

    def end(self) -> None:
        self._counts = False
        self.elapsed_s = time.perf_counter() - self._begun_s
        self.cpu_s = time.process_time() - self._begun_cpu_s


def _find_percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
