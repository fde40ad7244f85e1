"""What a call tells of how it came about: seconds in the queue, in the batch and in the model, batch size, model.

Whatever runs a model on behalf of a call adds to the call's report; the call says it in its trailers when it ends, typed
calls and Open Inference Protocol calls alike, and failed ones as far as they came. Not here: what the process as a whole
tells of its load (`load.py`), and the time of one input of a typed call (`shared/inference/timing.py`).
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from shared.telemetry.tracing import Span, Value

__all__ = ["Report", "current_report", "set_report"]

QUEUE_TRAILER = "x-sensorium-queue"
BATCH_TRAILER = "x-sensorium-batch"
COMPUTE_TRAILER = "x-sensorium-compute"
BATCH_SIZE_TRAILER = "x-sensorium-batch-size"
MODEL_VERSION_TRAILER = "x-sensorium-model-version"


class Report:
    """The figures of one call. A call may run models one after another and side by side: each instant counts once, so that
    the three times never add up to more than the call took. Used on the event loop only.
    """

    __slots__ = ("_last_s", "batch_s", "batch_size", "compute_s", "cost_s", "models", "parts", "queue_s")

    def __init__(self, *, traced: bool = False) -> None:
        """`traced`: each run and each piece of work is also kept by itself, in `parts`."""
        self.parts: list[Span] | None = [] if traced else None
        self.queue_s = 0.0
        self.batch_s = 0.0
        self.compute_s = 0.0
        self.cost_s = 0.0  # of all runs, the call's share of each: what it is charged with
        self.batch_size = 0
        self.models: tuple[str, ...] = ()
        self._last_s = 0.0

    def add(
        self,
        queue_s: float,
        batch_s: float,
        compute_s: float,
        batch_size: int,
        model: str,
        version: str,
        *,
        share: float = 1.0,
    ) -> None:
        """Counts one run of a model that has just ended.

        queue_s: until a batch took it; batch_s: joining, splitting, handing over; compute_s: the run itself; 0 for what
        it did not come to. batch_size: rows of the batch, 0 if it never ran. model: public name, `<service>/<model>`.
        share: of the run, by cost, the part that was the call's own.
        """
        now_s = time.monotonic()
        if self.parts is not None:
            self.parts += _to_spans(now_s, queue_s, batch_s, compute_s, batch_size, f"{model}@{version}")
        self.cost_s += compute_s * share
        if self._last_s:
            # What lay side by side with runs that are counted already is not counted again. The run was the last of its
            # phases.
            left_s = now_s - self._last_s
            compute_s = min(compute_s, left_s)
            batch_s = min(batch_s, left_s - compute_s)
            queue_s = min(queue_s, left_s - compute_s - batch_s)
        self._last_s = now_s
        self.queue_s += queue_s
        self.batch_s += batch_s
        self.compute_s += compute_s
        if batch_size > self.batch_size:
            self.batch_size = batch_size
        ran = f"{model}@{version}"
        if ran not in self.models:
            self.models = (*self.models, ran)

    def add_all(self, other: Report) -> None:
        """Counts what another report has counted, as one run."""
        share = other.cost_s / other.compute_s if other.compute_s else 0.0
        queue_s, batch_s, compute_s = other.queue_s, other.batch_s, other.compute_s
        for ran in other.models:
            model, _, version = ran.rpartition("@")
            self.add(queue_s, batch_s, compute_s, other.batch_size, model, version, share=share)
            # Once, whatever the number of models.
            queue_s = batch_s = compute_s = 0.0

    def add_wait(self, queue_s: float, work_s: float) -> None:
        """Counts a wait for a thread of pre- or postprocessing, and the work that has just ended there."""
        now_s = time.monotonic()
        if self.parts is not None:
            begun_s = now_s - work_s
            self.parts += (Span("wait", begun_s - queue_s, begun_s), Span("work", begun_s, now_s))
        left_s = now_s - self._last_s if self._last_s else queue_s + work_s
        self._last_s = now_s
        self.queue_s += max(0.0, min(queue_s, left_s - work_s))

    def to_trailers(self) -> tuple[tuple[str, str], ...]:
        """The trailers; none if no model was asked. Seconds with six decimals, models as `<service>/<model>@<version>`,
        separated by commas, in the order of their first answer.
        """
        if not self.models:
            return ()
        return (
            (QUEUE_TRAILER, f"{self.queue_s:.6f}"),
            (BATCH_TRAILER, f"{self.batch_s:.6f}"),
            (COMPUTE_TRAILER, f"{self.compute_s:.6f}"),
            (BATCH_SIZE_TRAILER, str(self.batch_size)),
            (MODEL_VERSION_TRAILER, ",".join(self.models)),
        )


def _to_spans(
    now_s: float, queue_s: float, batch_s: float, compute_s: float, batch_size: int, model: str
) -> tuple[Span, ...]:
    """One run that has just ended, as the parts of a trace: its wait, and its slot in a batch."""
    taken_s = now_s - compute_s - batch_s
    attributes: dict[str, Value] = {"sensorium.model": model}
    queue = Span("queue", taken_s - queue_s, taken_s, attributes)
    # It was answered out of the cache, or it never ran.
    if not batch_size:
        return (queue,)
    told = {**attributes, "sensorium.batch_size": batch_size, "sensorium.compute_s": compute_s}
    return queue, Span("batch", taken_s, now_s, told)


_current: ContextVar[Report | None] = ContextVar("sensorium_report", default=None)


def set_report(report: Report | None) -> None:
    """Binds the current task, and those it starts, to a call's report."""
    _current.set(report)


def current_report() -> Report | None:
    """The report of the call this task works for; None outside of a call."""
    return _current.get()
