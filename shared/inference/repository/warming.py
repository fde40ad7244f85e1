"""First runs of a graph that is to take over from one that serves, so that no caller pays for them.

A first run of a size takes memory and picks kernels. Not here: what batches are worth (`golden.py`), and whether answers
are right. Blocking; run off the event loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from shared.inference.datatypes import Array
from shared.inference.repository.golden import LoadedGraph

# How long the runs of one graph may take, and one of them but the first: calls go on meanwhile, on the same cores, and
# wait for a core as long as a run takes.
_WARM_S, _RUN_S = 0.5, 0.1


def warm_up(
    graphs: Mapping[str, LoadedGraph], inputs: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[int, float]]:
    """Run each graph's golden inputs alone and in batches that double, up to its largest; seconds by graph and rows.

    Where the next run would take more than 0.1 s, or all of a graph more than half a second, it is left at that.

    Raises:
        RunError: a run failed.
    """
    return {key: _warm_graph(graphs[key], values) for key, values in inputs.items()}


def _warm_graph(graph: LoadedGraph, inputs: Mapping[str, Array]) -> dict[int, float]:
    outputs = [tensor.name for tensor in graph.signature.outputs]
    taken: dict[int, float] = {}
    left_s = _WARM_S
    for rows in _list_rows(graph, inputs):
        feed = {name: _tile(array, rows) if rows else array for name, array in inputs.items()}
        started_s = time.perf_counter()
        graph.run(feed, outputs)
        taken[rows or 1] = took_s = time.perf_counter() - started_s
        left_s -= took_s
        # The next one has twice the rows.
        if 2 * took_s > min(left_s, _RUN_S):
            break
    return {rows: round(took_s, 5) for rows, took_s in taken.items()}


def _list_rows(graph: LoadedGraph, inputs: Mapping[str, Array]) -> list[int]:
    """Rows of the runs, doubling; [0] where there is no batch axis: the inputs as they are."""
    if graph.max_batch_size < 1 or not inputs:
        return [0]
    sizes = []
    rows = 1
    while rows < graph.max_batch_size:
        sizes.append(rows)
        rows *= 2
    return [*sizes, graph.max_batch_size]


def _tile(array: Array, rows: int) -> Array:
    """The first rows of an array, repeated as often as it takes."""
    return np.resize(array, (rows, *array.shape[1:]))
