"""What one graph has served since the start, counted as Triton counts it, and as histograms for operators.

By Triton's statistics extension: `inference_count` counts rows that were answered, `execution_count` runs that
succeeded, neither counts answers out of the cache. `success` counts calls ("requests") whose answer was given, those out
of the cache included, with their whole time; `fail` those that were not, refused ones included. `queue` is the time until
a batch took a call, or the cache answered it. `compute_*` are a batch's times, added once for every call in it, and once
to its batch size: putting together, running, taking apart. `cache_hit` and `cache_miss` are calls and the time of looking
them up (and of putting a missed answer in). So a call of 64 rows counts 1 in `success` and 64 in `inference_count`; the
batch that it ran in counts 1 in `execution_count`.

Not thread-safe: the event loop records and reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.batching.histogram import ROWS_BOUNDS, SECONDS_BOUNDS, Histogram

__all__ = ["BatchTimes", "Failure", "Statistics"]


class Failure(StrEnum):
    """Why a call was not answered."""

    REFUSED = "refused"  # the queue was full, or too long for the deadline
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"  # the run, or the batcher was closed


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

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` times, `ns` in all."""
        self.count += count
        self.ns += ns

    def to_message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class _Phases:
    input: _Sum = field(default_factory=_Sum)
    infer: _Sum = field(default_factory=_Sum)
    output: _Sum = field(default_factory=_Sum)

    def add(self, times: BatchTimes, count: int = 1) -> None:
        """Count the batch's times for each of `count` calls."""
        self.input.add(times.input_ns * count, count)
        self.infer.add(times.infer_ns * count, count)
        self.output.add(times.output_ns * count, count)


class Statistics:
    """The counters of one graph."""

    def __init__(self) -> None:
        self.queue_s = Histogram(SECONDS_BOUNDS)  # of each answered call
        self.batch_s = Histogram(SECONDS_BOUNDS)  # joining and splitting, of each run
        self.compute_s = Histogram(SECONDS_BOUNDS)  # of each run
        self.batch_rows = Histogram(ROWS_BOUNDS)  # of each run
        self.failures = dict.fromkeys(Failure, 0)
        self.cost = 0.0  # of all runs as items brought it
        self.padded_cost = 0.0  # and with its filling: what was run
        self._success = _Sum()
        self._fail = _Sum()
        self._queue = _Sum()
        self._phases = _Phases()
        self._cache_hit = _Sum()
        self._cache_miss = _Sum()
        self._by_size: dict[int, _Phases] = {}
        self._rows = 0
        self._executions = 0
        self._last_ms = 0

    @property
    def waste(self) -> float:
        """Share of all that was run that was filling."""
        return 1 - self.cost / self.padded_cost if self.padded_cost else 0.0

    def record_batch(
        self,
        rows: int,
        times: BatchTimes,
        *,
        answered_rows: int,
        total_ns: Sequence[int],
        queue_ns: Sequence[int],
        cost: float = 0.0,
        padded_cost: float = 0.0,
    ) -> None:
        """Count one run of the graph; `rows` is 1 for a graph without a batch axis.

        `total_ns` and `queue_ns` are the times of its calls that were still there to be answered, in all and in the
        queue.
        """
        self._executions += 1
        self._last_ms = time.time_ns() // 1_000_000
        phases = self._by_size.get(rows)
        if phases is None:
            phases = self._by_size[rows] = _Phases()
        phases.add(times)
        self.batch_rows.record(rows)
        self.batch_s.record((times.input_ns + times.output_ns) / 1e9)
        self.compute_s.record(times.infer_ns / 1e9)
        self.cost += cost
        self.padded_cost += padded_cost
        if count := len(total_ns):
            self._rows += answered_rows
            self._success.add(sum(total_ns), count)
            self._queue.add(sum(queue_ns), count)
            self._phases.add(times, count)
            record = self.queue_s.record
            for ns in queue_ns:
                record(ns / 1e9)

    def record_hit(self, rows: int, total_ns: int, lookup_ns: int) -> None:
        """Count one call that was answered out of the cache: its time in all, and that of looking it up.

        Its rows are not counted: `inference_count` leaves hits out.
        """
        self._last_ms = time.time_ns() // 1_000_000
        self._success.add(total_ns)
        self._queue.add(0)
        self._cache_hit.add(lookup_ns)

    def record_miss(self, ns: int) -> None:
        """Count one call that the cache had no answer for: looking it up, and putting the answer in."""
        self._cache_miss.add(ns)

    def record_failure(self, reason: Failure, total_ns: int) -> None:
        """Count one call that was not answered, or was answered with an error."""
        self.failures[reason] += 1
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
                cache_hit=self._cache_hit.to_message(),
                cache_miss=self._cache_miss.to_message(),
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
