"""Open and closed load on one model, simulated: a queue, one session that runs for a fixed time, and a limit before them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.rpc.admission.limit import Limit

ARRIVAL, END = "arrival", "end"


@dataclass
class Outcome:
    """What became of the calls that arrived after the warm-up."""

    answered: int = 0
    refused: int = 0
    latencies_s: list[float] = field(default_factory=list)
    most_in_flight: int = 0

    def percentile_s(self, share: float) -> float:
        """A percentile of the latencies of those that were answered."""
        return sorted(self.latencies_s)[int(share * len(self.latencies_s))]


@dataclass
class Model:
    """A session that takes up to `rows` calls into a run of `run_s` seconds."""

    run_s: float
    rows: int = 1


def open_load(
    limit: Limit,
    model: Model,
    rate: Callable[[float], float],
    *,
    poisson: bool = True,
    duration_s: float = 60.0,
    warm_up_s: float = 10.0,
) -> Outcome:
    """Calls that come whether or not others are answered; rate: calls a second at an instant."""
    rng = random.Random(7)

    def next_gap(now_s: float) -> float:
        return rng.expovariate(rate(now_s)) if poisson else 1 / rate(now_s)

    return _simulate(limit, model, [(0.0, -1)], next_gap, duration_s, warm_up_s)


def closed_load(
    limit: Limit, model: Model, callers: int, *, duration_s: float = 60.0, from_s: float = 0.0
) -> Outcome:
    """Callers with one call each, who call again once they are answered, or when they are told to come back; until
    `duration_s` on the clock."""
    first = [(from_s, caller) for caller in range(callers)]
    return _simulate(limit, model, first, lambda _: 0.0, duration_s, 0)


def _simulate(
    limit: Limit,
    model: Model,
    first: list[tuple[float, int]],
    next_gap: Callable[[float], float],
    duration_s: float,
    warm_up_s: float,
) -> Outcome:
    outcome = Outcome()
    events: list[tuple[float, int, str, list[tuple[float, int]], float]] = []
    waiting: list[tuple[float, int]] = []
    running = False

    def push(at_s: float, kind: str, calls: list[tuple[float, int]], began_s: float = 0.0) -> None:
        heapq.heappush(events, (at_s, len(events) + int(at_s * 1e9), kind, calls, began_s))

    def run(now_s: float) -> bool:
        if running or not waiting:
            return running
        taken, waiting[:] = waiting[: model.rows], waiting[model.rows :]
        push(now_s + model.run_s, END, taken, now_s)
        return True

    for at_s, caller in first:
        push(at_s, ARRIVAL, [(at_s, caller)])
    while events and events[0][0] <= duration_s:
        now_s, _, kind, calls, began_s = heapq.heappop(events)
        if kind == ARRIVAL:
            caller = calls[0][1]
            if caller < 0:
                push(now_s + next_gap(now_s), ARRIVAL, [(0.0, -1)])
            if limit.enter("", now_s, urgent=True):
                waiting.append((now_s, caller))
                outcome.most_in_flight = max(outcome.most_in_flight, limit.in_flight)
            else:
                outcome.refused += now_s >= warm_up_s
                if caller >= 0:
                    push(now_s + limit.suggest_retry_s(), ARRIVAL, [(0.0, caller)])
        else:
            running = False
            for came_s, caller in calls:
                limit.leave("", now_s, urgent=True)
                limit.record(began_s - came_s, now_s - began_s, now_s)
                if came_s >= warm_up_s:
                    outcome.answered += 1
                    outcome.latencies_s.append(now_s - came_s)
                if caller >= 0:
                    push(now_s, ARRIVAL, [(0.0, caller)])
        running = run(now_s)
    return outcome
