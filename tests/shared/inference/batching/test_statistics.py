"""Calls, rows and runs are three numbers."""

from __future__ import annotations

import math

import pytest

from shared.inference.batching.histogram import Histogram
from shared.inference.batching.statistics import BatchTimes, Failure, Statistics


def test_a_batch_counts_once_as_a_run_once_per_call_and_once_per_row() -> None:
    statistics = Statistics()
    times = BatchTimes(input_ns=10, infer_ns=100, output_ns=1)
    statistics.record_batch(5, times, answered_rows=5, total_ns=[500, 600], queue_ns=[7, 8])
    statistics.record_failure(Failure.FAILED, 50)
    message = statistics.to_message("graph", "1")
    assert (message.name, message.version) == ("graph", "1")
    assert (message.inference_count, message.execution_count) == (5, 1)
    sums = message.inference_stats
    assert (sums.success.count, sums.success.ns) == (2, 1100)
    assert (sums.fail.count, sums.fail.ns) == (1, 50)
    assert (sums.queue.count, sums.queue.ns) == (2, 15)
    # The whole batch's time once for each call in it, as Triton has it.
    assert (sums.compute_input.ns, sums.compute_infer.ns, sums.compute_output.ns) == (20, 200, 2)
    (batch,) = message.batch_stats
    assert (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) == (5, 1, 100)


def test_batch_sizes_are_listed_from_small_to_large() -> None:
    statistics = Statistics()
    for rows in (8, 1, 8, 4):
        statistics.record_batch(rows, BatchTimes(1, 1, 1), answered_rows=0, total_ns=[], queue_ns=[])
    sizes = [(b.batch_size, b.compute_infer.count) for b in statistics.to_message("graph", "1").batch_stats]
    assert sizes == [(1, 1), (4, 1), (8, 2)]


def test_a_call_out_of_the_cache_succeeds_without_a_run() -> None:
    statistics = Statistics()
    statistics.record_hit(4, total_ns=30, lookup_ns=20)
    statistics.record_miss(9)
    message = statistics.to_message("graph", "1")
    # Triton's counts of inferences and runs leave hits out; success and queue have them.
    assert (message.inference_count, message.execution_count) == (0, 0)
    sums = message.inference_stats
    assert (sums.success.count, sums.success.ns, sums.queue.count, sums.queue.ns) == (1, 30, 1, 0)
    assert (sums.cache_hit.count, sums.cache_hit.ns) == (1, 20)
    assert (sums.cache_miss.count, sums.cache_miss.ns) == (1, 9)
    assert sums.compute_infer.count == 0
    assert message.last_inference > 0


def test_failures_are_told_apart() -> None:
    statistics = Statistics()
    for reason in (Failure.CANCELLED, Failure.REFUSED, Failure.CANCELLED):
        statistics.record_failure(reason, 1)
    assert statistics.failures == {"refused": 1, "expired": 0, "cancelled": 2, "failed": 0}
    assert statistics.to_message("", "").inference_stats.fail.count == 3


def test_a_run_whose_callers_have_all_left_counts_as_a_run_alone() -> None:
    statistics = Statistics()
    statistics.record_batch(3, BatchTimes(1, 1, 1), answered_rows=0, total_ns=[], queue_ns=[])
    message = statistics.to_message("", "")
    assert (message.execution_count, message.inference_count) == (1, 0)
    assert message.inference_stats.success.count == message.inference_stats.queue.count == 0


def test_filling_is_a_share_of_all_that_was_run() -> None:
    statistics = Statistics()
    assert statistics.waste == 0
    for cost, padded in ((30, 40), (60, 60)):
        statistics.record_batch(
            2,
            BatchTimes(1, 1, 1),
            answered_rows=2,
            total_ns=[1],
            queue_ns=[1],
            cost=cost,
            padded_cost=padded,
        )
    assert statistics.waste == pytest.approx(0.1)


def test_histograms_count_each_value_once() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.record(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 3), (math.inf, 4)]
    assert histogram.total == 12.0
