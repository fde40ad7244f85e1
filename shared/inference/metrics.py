"""What the graphs of a repository did and do, for Prometheus; and what waits before them, for balancers.

Here: counts that others keep, under their public names. Not here: counting (`batching/statistics.py`), versions and loads
(`repository/status.py`), calls (`shared.telemetry.metrics`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.inference.batching.histogram import Histogram
from shared.inference.model import ServedGraph
from shared.inference.repository.repository import Repository
from shared.rpc.load import Backlog

__all__ = ["InferenceMetrics"]

_LABELS = ("model", "version", "graph")
# How long a scrape waits for the event loop. Scrapers give up after ten seconds.
_PATIENCE_S = 5.0


class InferenceMetrics(Collector):
    """The metrics of one repository, and its workload. Made on the repository's event loop."""

    def __init__(self, repository: Repository, cores: int) -> None:
        """`cores` are those that the runs of all models share."""
        self.cores = cores
        self._repository = repository
        self._loop = asyncio.get_running_loop()

    def backlog(self) -> Backlog:
        """What waits before all graphs."""
        items, seconds = 0, 0.0
        for graph in self._repository.graphs():
            batcher = graph.batcher
            if batcher.queue_size:
                load = batcher.load()
                items += load.queued_items
                seconds += load.queued_cost * load.s_per_cost
        return Backlog(items, seconds / self.cores)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape, on its thread. Raises TimeoutError if the event loop stands still."""
        try:
            if asyncio.get_running_loop() is self._loop:
                return iter(self._measure())
        except RuntimeError:
            pass  # the thread of a scrape has none
        # Graphs and their queues belong to the event loop, and must not be let go of on another thread.
        measuring = self._measure_on_loop()
        try:
            waiting = asyncio.run_coroutine_threadsafe(measuring, self._loop)
        except RuntimeError:
            # The loop was closed: the process ends.
            measuring.close()
            return iter(())
        try:
            return iter(waiting.result(_PATIENCE_S))
        except CancelledError:
            return iter(())

    async def _measure_on_loop(self) -> list[Metric]:
        return self._measure()

    def _measure(self) -> list[Metric]:
        graphs = list(self._repository.graphs())
        return [*_measure_runs(graphs), *_measure_queues(graphs), *_measure_outcomes(graphs)]


def _label(graph: ServedGraph) -> list[str]:
    artifact = graph.artifact
    return [f"{artifact.service}/{artifact.name}", artifact.version, graph.name]


def _measure_runs(graphs: Iterable[ServedGraph]) -> Iterator[Metric]:
    """Where the time of calls and runs went."""
    families = {
        name: HistogramMetricFamily(f"sensorium_inference_{name}", text, labels=_LABELS)
        for name, text in (
            ("queue_seconds", "Wait of answered items until a batch took them."),
            ("batch_seconds", "Joining and splitting of batches."),
            ("compute_seconds", "Runs of batches."),
            ("batch_rows", "Rows of batches."),
        )
    }
    for graph in graphs:
        statistics, labels = graph.batcher.statistics, _label(graph)
        for name, histogram in (
            ("queue_seconds", statistics.queue_s),
            ("batch_seconds", statistics.batch_s),
            ("compute_seconds", statistics.compute_s),
            ("batch_rows", statistics.batch_rows),
        ):
            families[name].add_metric(labels, _to_buckets(histogram), histogram.total)
    yield from families.values()


def _measure_queues(graphs: Iterable[ServedGraph]) -> Iterator[Metric]:
    """What waits and what runs now."""
    families = {
        name: GaugeMetricFamily(f"sensorium_inference_{name}", text, labels=_LABELS)
        for name, text in (
            ("queue_items", "Items that wait."),
            ("queue_cost", "Their cost, in the graph's own unit."),
            ("running_items", "Items of the batches that run."),
            ("expected_wait_seconds", "Until an item that came now would begin to run."),
        )
    }
    for graph in graphs:
        load, labels = graph.batcher.load(), _label(graph)
        families["queue_items"].add_metric(labels, load.queued_items)
        families["queue_cost"].add_metric(labels, load.queued_cost)
        families["running_items"].add_metric(labels, load.running)
        families["expected_wait_seconds"].add_metric(labels, load.expected_wait_s)
    yield from families.values()


def _measure_outcomes(graphs: Iterable[ServedGraph]) -> Iterator[Metric]:
    """What became of the items, and what of the work was filling."""
    failures = CounterMetricFamily(
        "sensorium_inference_unanswered_items",
        "Items that were not answered: refused, expired, cancelled, failed.",
        labels=[*_LABELS, "reason"],
    )
    hits, misses, cost, padded = (
        CounterMetricFamily(f"sensorium_inference_{name}", text, labels=_LABELS)
        for name, text in (
            ("cache_hits", "Items that were answered out of the cache."),
            ("cache_misses", "Items that the cache had no answer for."),
            ("run_cost", "Cost of all runs as their items brought it, in the graph's own unit."),
            ("run_padded_cost", "The same with its filling."),
        )
    )
    for graph in graphs:
        statistics, labels = graph.batcher.statistics, _label(graph)
        for reason, count in statistics.failures.items():
            failures.add_metric([*labels, str(reason)], count)
        counted = statistics.to_message("", "").inference_stats
        if graph.cache is not None:
            hits.add_metric(labels, counted.cache_hit.count)
            misses.add_metric(labels, counted.cache_miss.count)
        cost.add_metric(labels, statistics.cost)
        padded.add_metric(labels, statistics.padded_cost)
    yield from (failures, hits, misses, cost, padded)


def _to_buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [
        ("+Inf" if bound == float("inf") else str(bound), float(count))
        for bound, count in histogram.cumulative()
    ]
