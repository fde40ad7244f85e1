"""Many runs of one model on variants of one input, behind everybody else's, and none begun that could not be answered.

Not here: which variants (`masks.py`), what their scores say (`attribution.py`), how a variant is made (the services).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.errors import DeadlineExceeded, ResourceExhausted
from shared.inference.datatypes import Array
from shared.inference.executor import Check, run_while_wanted
from shared.inference.explanation.masks import Kept
from shared.inference.model import Model, ServedGraph
from shared.inference.timing import ItemStopwatch
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline
from shared.side_by_side import run_side_by_side

Row = Mapping[str, Array]  # a graph's inputs, batch axis of 1

# Variants that are made and wait at a time: they fill a batch or two, and no more of them lie in the queue than that.
_WINDOW = 32


@dataclass
class Probe:
    """One input of a model under question. Made for one explanation.

    `make` turns masks into the graph's inputs one by one, as they are drawn; it may block, and runs on a thread that draws
    no more once the call has ended. `score` reads the label's score out of a row of `output`. `what` names the work, for
    messages. `later_runs` will follow for other inputs of the same call.
    """

    model: Model
    output: str
    make: Callable[[Kept], Iterable[Row]]
    score: Callable[[NDArray[np.float32]], float]
    watch: ItemStopwatch
    deadline: Deadline
    what: str
    later_runs: int = 0
    run_count: int = field(default=0, init=False)

    async def run(self, kept: Kept) -> NDArray[np.float64]:
        """The scores [runs] of variants that keep these parts [runs, parts].

        Raises:
            DeadlineExceeded: what is to be done would take longer than there is time, or took it.
            ResourceExhausted: the queue is full.
        """
        scores = np.empty(len(kept), np.float64)
        graph = next(iter(self.model.graphs.values()))
        begun_s = time.monotonic()
        made_s = 0.0
        for start in range(0, len(kept), _WINDOW):
            left = len(kept) - start + self.later_runs
            # By what this explanation's runs have taken so far, and by what the batcher expects of such runs.
            seen_s = (time.monotonic() - begun_s) / start * left if start else 0.0
            refuse_late(self.deadline, seen_s, self.what)
            with self.watch.preprocessing():
                rows, window_s = await run_while_wanted(self._draw, kept[start : start + _WINDOW])
            made_s += window_s
            # What is still to be made, by what those made so far took.
            making_s = made_s / (start + len(rows)) * (left - len(rows))
            check_time(self.model, rows, left / len(rows), self.deadline, self.what, making_s=making_s)
            scores[start : start + _WINDOW] = await self._run_window(graph, rows)
            self.run_count += len(rows)
        return scores

    def _draw(self, check: Check, kept: Kept) -> tuple[list[Row], float]:
        """The variants of these masks, and the seconds of a core that making them took."""
        begun_s = time.thread_time()
        rows = []
        for row in self.make(kept):
            rows.append(row)
            check()
        return rows, time.thread_time() - begun_s

    async def _run_window(self, graph: ServedGraph, rows: Sequence[Row]) -> list[float]:
        async def run(row: Row) -> float:
            # Past the model's cache: nobody asks for a variant again, and they would drive out what is asked for.
            answer = await graph.batcher.submit(row, (self.output,), self.deadline, priority=Priority.BATCH)
            # The runs wait side by side: the longest wait counts, and of a batch each run's own part.
            self.watch.queue_s = max(self.watch.queue_s, answer.queue_s)
            self.watch.compute_s += (answer.batch_s + answer.compute_s) * answer.share
            return self.score(answer.outputs[self.output][0])

        try:
            return await run_side_by_side(map(run, rows))
        except ResourceExhausted:
            # Refused for runs of its own before it, coming back does not help.
            check_time(self.model, rows, 1.0, self.deadline, self.what)
            raise


def check_time(
    model: Model,
    rows: Sequence[Row],
    times: float,
    deadline: Deadline,
    what: str,
    *,
    making_s: float = 0.0,
) -> None:
    """Refuse work for which the time does not suffice: so many `times` each of `rows`, what waits before them included.

    `making_s` is what making the inputs of those runs takes besides. It should be measured on `time.thread_time`'s clock: a
    busy machine would stretch any other, and what could be answered would be refused.

    Raises:
        DeadlineExceeded: it would take longer, as far as the model's runs are known.
    """
    graph = next(iter(model.graphs.values()))
    load = graph.batcher.load()
    cost = times * sum(graph.batcher.count_cost(row) for row in rows)
    needed_s = load.expected_wait_s + cost * load.s_per_cost / graph.settings.instances
    refuse_late(deadline, making_s + (needed_s if math.isfinite(needed_s) else 0.0), what)


def refuse_late(deadline: Deadline, needed_s: float, what: str) -> None:
    """Raise DeadlineExceeded where less time is left than `needed_s`, or none."""
    left_s = deadline.remaining_s()
    if left_s < needed_s or left_s <= 0:
        raise DeadlineExceeded(what, left_s=max(left_s, 0.0), needed_s=needed_s)
