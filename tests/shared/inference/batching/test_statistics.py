"""Calls, rows and runs are three numbers."""

from __future__ import annotations

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
