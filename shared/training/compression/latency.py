"""What a run of each form of a model costs, so that they can be compared on a machine that does other things too.

Lives here: CPU time of single runs, measured in turns. Not here: a service's throughput (`make bench`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

ROUNDS = 31


def measure_latency(
    contents: Mapping[str, bytes], inputs: Mapping[str, NDArray[Any]], *, rounds: int = ROUNDS, runs: int = 3
) -> dict[str, float]:
    """Median CPU seconds of one run with one thread, by form.

    inputs: what is asked, usually one item. The forms take turns, forwards and backwards, so that whatever else happens
    meets all of them; of `runs` in a row the fastest counts.
    """
    sessions = {name: _open(content) for name, content in contents.items()}
    taken: dict[str, list[float]] = {name: [] for name in contents}
    feeds = dict(inputs)
    for session in sessions.values():
        session.run(None, feeds)
    order = list(sessions)
    for index in range(rounds):
        for name in order if index % 2 == 0 else reversed(order):
            fastest = float("inf")
            for _ in range(runs):
                started_s = time.thread_time()
                sessions[name].run(None, feeds)
                fastest = min(fastest, time.thread_time() - started_s)
            taken[name].append(fastest)
    return {name: statistics.median(values) for name, values in taken.items()}


def _open(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
