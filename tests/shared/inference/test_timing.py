"""Each phase of a call is the longest of any one of its inputs."""

from __future__ import annotations

from shared.inference.batching.waiting import Answer
from shared.inference.timing import Stopwatch


def test_runs_add_up_within_an_input_and_the_longest_input_counts() -> None:
    watch = Stopwatch()
    first, second = watch.item(), watch.item()
    first.add(Answer({}, queue_s=1.0, batch_s=0.0, compute_s=0.25, batch_size=1))
    first.add(Answer({}, queue_s=1.0, batch_s=0.0, compute_s=0.25, batch_size=1))
    second.add(Answer({}, queue_s=0.5, batch_s=0.0, compute_s=2.0, batch_size=1))
    timing = watch.to_timing()
    assert timing.queue.ToNanoseconds() == 2_000_000_000
    assert timing.compute.ToNanoseconds() == 2_000_000_000


def test_blocks_are_counted_to_their_phase() -> None:
    watch = Stopwatch()
    item = watch.item()
    with item.preprocessing():
        sum(range(1000))
    with item.postprocessing():
        sum(range(1000))
    with item.postprocessing():
        sum(range(1000))
    timing = watch.to_timing()
    assert timing.preprocess.ToNanoseconds() == int(item.preprocess_s * 1e9) > 0
    assert timing.postprocess.ToNanoseconds() == int(item.postprocess_s * 1e9) > 0
    assert timing.queue.ToNanoseconds() == timing.compute.ToNanoseconds() == 0


def test_a_call_without_inputs_took_no_time() -> None:
    assert Stopwatch().to_timing().compute.ToNanoseconds() == 0
