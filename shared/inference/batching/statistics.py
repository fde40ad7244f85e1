"""What one graph has served since the start, counted as Triton counts it.

A call ("request") of 64 rows counts 1 in `success` and 64 in `inference_count`; the batch that it ran in
counts 1 in `execution_count`. A batch's compute times are added once for every call in it, and once to its
batch size. `fail` counts calls that reached the queue and were not answered, refused ones included. A call that is
answered out of the cache counts in `success`, `queue` (0 ns) and `inference_count`, and in no compute time. Not
thread-safe: the event loop records and reads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sensorium.oip.v2 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Where the time of one batch went, in nanoseconds: putting together, running, taking apart."""

    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass(slots=True)
class _Sum:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def to_message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class _Phases:
    input: _Sum = field(default_factory=_Sum)
    infer: _Sum = field(default_factory=_Sum)
    output: _Sum = field(default_factory=_Sum)

    def add(self, times: BatchTimes) -> None:
        self.input.add(times.input_ns)
        self.infer.add(times.infer_ns)
        self.output.add(times.output_ns)


class Statistics:
    """The counters of one graph."""

    def __init__(self) -> None:
        self._success = _Sum()
        self._fail = _Sum()
        self._queue = _Sum()
        self._phases = _Phases()
        self._hit = _Sum()
        self._miss = _Sum()
        self._by_size: dict[int, _Phases] = {}
        self._rows = 0
        self._executions = 0
        self._last_ms = 0

    def record_batch(self, rows: int, times: BatchTimes) -> None:
        """Count one run of the graph; `rows` is 1 for a graph without a batch axis."""
        self._executions += 1
        self._last_ms = time.time_ns() // 1_000_000
        self._by_size.setdefault(rows, _Phases()).add(times)

    def record_success(self, rows: int, total_ns: int, queue_ns: int, times: BatchTimes) -> None:
        """Count one call that was answered: its time in all, and its share of it in the queue."""
        self._rows += rows
        self._success.add(total_ns)
        self._queue.add(queue_ns)
        self._phases.add(times)

    def record_hit(self, rows: int, total_ns: int, lookup_ns: int) -> None:
        """Count one call that was answered out of the cache: its time in all, and that of looking it up."""
        self._rows += rows
        self._success.add(total_ns)
        self._queue.add(0)
        self._hit.add(lookup_ns)

    def record_miss(self, ns: int) -> None:
        """Count one call that the cache had no answer for: looking it up, and putting the answer in."""
        self._miss.add(ns)

    def record_failure(self, total_ns: int) -> None:
        """Count one call that was not answered, or was answered with an error."""
        self._fail.add(total_ns)

    def to_message(self, name: str, version: str) -> pb.ModelStatistics:
        """The counters as the protocol shows them."""
        return pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=self._last_ms,
            inference_count=self._rows,
            execution_count=self._executions,
            inference_stats=pb.InferStatistics(
                success=self._success.to_message(),
                fail=self._fail.to_message(),
                queue=self._queue.to_message(),
                compute_input=self._phases.input.to_message(),
                compute_infer=self._phases.infer.to_message(),
                compute_output=self._phases.output.to_message(),
                cache_hit=self._hit.to_message(),
                cache_miss=self._miss.to_message(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(
                    batch_size=rows,
                    compute_input=phases.input.to_message(),
                    compute_infer=phases.infer.to_message(),
                    compute_output=phases.output.to_message(),
                )
                for rows, phases in sorted(self._by_size.items())
            ],
        )
