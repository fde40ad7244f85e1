"""Requests of a known layout for a graph that runs on the event loop: answered in one of its next turns, without a task.

Here: what `shared.rpc.quick` asks of a servicer, for ModelInfer. Everything that is not plain (a cache, parameters, a graph
with longer runs, one that others wait for) goes the way of `answering.py`, which also makes the plans that are used here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.errors import SensoriumError
from shared.inference.batching.batcher import Batcher
from shared.inference.batching.shape import Shape
from shared.inference.batching.waiting import Answer
from shared.inference.model import ServedGraph
from shared.inference.oip.answering import Answering
from shared.inference.oip.familiar import Plan
from shared.inference.oip.layout import Layout
from shared.inference.oip.message import find_layout
from shared.rpc.quick import QuickCall

__all__ = ["InferShortcut"]


class Found(NamedTuple):
    """By what a request can be answered."""

    layout: Layout
    plan: Plan
    shape: Shape
    graph: ServedGraph


class InferShortcut:
    """The shortcut of ModelInfer for one repository."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self._begun: list[Batcher] = []

    def find(self, payload: bytes) -> Found | None:
        """The plan of a request, if its graph can run it at once."""
        layout = find_layout(payload)
        if layout is None:
            return None
        plan = layout.known
        if not isinstance(plan, Plan) or (shape := plan.shape) is None:
            return None
        try:
            graph = self._answering.graph(plan.model_name, plan.model_version)
        except SensoriumError:
            return None  # what is wrong is said on the usual way
        if graph.cache is not None or plan.owner is not self._answering.face(graph):
            return None
        return Found(layout, plan, shape, graph) if graph.batcher.takes_express(shape) else None

    def begin(self, found: Any, payload: bytes, call: QuickCall) -> None:
        """Have the graph run the request."""
        layout, plan, shape, graph = found
        raw = [payload[start:end] for start, end in layout.spans]
        graph.batcher.begin(
            plan.read(raw),
            plan.outputs,
            shape,
            call.deadline,
            call.caller.principal,
            _Reply(call, plan, graph),
        )
        if graph.batcher not in self._begun:
            self._begun.append(graph.batcher)

    def finish(self) -> None:
        """Run what was begun."""
        begun, self._begun = self._begun, []
        for batcher in begun:
            batcher.run_express()


class _Reply:
    """Who waits for the answer. Holds the graph, as a call does: its version ends once nobody does."""

    __slots__ = ("_call", "_done", "_graph", "_plan")

    def __init__(self, call: QuickCall, plan: Plan, graph: ServedGraph) -> None:
        self._call = call
        self._plan = plan
        self._graph = graph
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, answer: Answer) -> None:
        self._done = True
        self._graph.batcher.report(answer, self._call.report)
        self._call.reply(self._plan.write(answer))

    def set_exception(self, error: BaseException) -> None:
        self._done = True
        self._call.fail(error)
