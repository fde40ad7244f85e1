"""The response cache: what counts as equal, who waits for whom, what an error leaves behind, and its bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from shared.errors import DeadlineExceeded, InvalidArgument
from shared.inference.batching.batcher import Answer, Batcher
from shared.inference.cache import ResponseCache
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline
from shared.rpc.report import Report, set_report
from tests.shared.inference.conftest import MakeBatcher
from tests.shared.inference.graphs import identity, linear, picky, slow
from tests.support.waiting import within

SOON_S = 10.0
# Turns of the slow graph's loop that hold its session for some seconds.
LONG = 2**24


def make_cache(max_bytes: int = 1 << 20) -> ResponseCache:
    return ResponseCache(max_bytes, digest="sha256:00", model="test/graph", version="1")


async def ask(cache: ResponseCache, batcher: Batcher, x: Any, *outputs: str, **more: Any) -> Answer:
    more.setdefault("deadline", Deadline.after(SOON_S))
    graph = more.pop("graph", "graph")
    return await within(cache.infer(graph, batcher, {"x": x}, outputs, **more))


def count_runs(batcher: Batcher) -> int:
    return batcher.statistics.to_message("", "").execution_count


async def test_an_equal_request_is_not_run_again(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(linear()), make_cache()
    x = np.arange(32, dtype=np.float32).reshape(2, 16)
    first = await ask(cache, batcher, x)
    # Equal by its bytes, wherever they lie.
    again = await ask(cache, batcher, np.asfortranarray(x.copy()))
    np.testing.assert_array_equal(again.outputs["y"], first.outputs["y"])
    assert not again.outputs["y"].flags.writeable
    assert (again.queue_s, again.batch_s, again.compute_s, again.batch_size) == (0, 0, 0, 0)
    assert first.batch_size == 2
    assert count_runs(batcher) == 1
    assert (cache.counts.hits, cache.counts.misses, len(cache)) == (1, 1, 1)


async def test_whatever_differs_is_run(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(identity("FP32")), make_cache()
    text = make_batcher(identity("BYTES"))
    flat = np.zeros((1, 4), np.float32)
    requests: list[tuple[Batcher, Any, dict[str, Any]]] = [
        (batcher, flat, {}),
        (batcher, flat.reshape(2, 2), {}),
        (batcher, flat.reshape(4, 1), {}),
        (batcher, -flat, {}),
        (batcher, flat[:, :0], {}),
        (batcher, flat, {"graph": "other"}),
        (text, np.array([["ab", "c"]], dtype=object), {}),
        (text, np.array([["a", "bc"]], dtype=object), {}),
        (text, np.array([["a"], ["bc"]], dtype=object), {}),
        (text, np.array([["", "abc"]], dtype=object), {}),
    ]
    for one, x, more in requests:
        answer = await ask(cache, one, x, **more)
        np.testing.assert_array_equal(answer.outputs["y"], x)
    assert (cache.counts.hits, cache.counts.misses) == (0, len(requests))
    assert np.signbit((await ask(cache, batcher, -flat)).outputs["y"]).all()
    await ask(cache, batcher, flat, "y")
    # Named, it is another request than left out: that costs one more run and no more.
    assert (cache.counts.hits, cache.counts.misses) == (1, len(requests) + 1)


async def test_equal_requests_at_a_time_run_once(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(linear()), make_cache()
    x = np.ones((1, 16), np.float32)
    answers = await asyncio.gather(*(ask(cache, batcher, x) for _ in range(50)))
    assert count_runs(batcher) == 1
    assert (cache.counts.hits, cache.counts.misses) == (49, 1)
    for answer in answers:
        np.testing.assert_array_equal(answer.outputs["y"], answers[0].outputs["y"])
    assert sorted(answer.batch_size for answer in answers) == [0] * 49 + [1]


async def test_a_leader_who_leaves_fails_nobody(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(slow()), make_cache()
    # Holds the session, so that the next one waits in the queue.
    held = asyncio.create_task(ask(cache, batcher, np.array([LONG])))
    x = np.array([3])
    leader = asyncio.create_task(ask(cache, batcher, x))
    followers = [asyncio.create_task(ask(cache, batcher, x)) for _ in range(5)]
    async with asyncio.timeout(SOON_S):
        while not batcher.queue_size:
            await asyncio.sleep(0)
    leader.cancel()
    held.cancel()
    answers = await within(asyncio.gather(*followers))
    assert [answer.outputs["y"].tolist() for answer in answers] == [[3]] * 5
    # One of them ran it, the others had his answer.
    assert cache.counts.misses == 1
    assert leader.cancelled() or leader.cancelling()


async def test_a_leader_who_is_late_fails_nobody(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(slow()), make_cache()
    held = asyncio.create_task(ask(cache, batcher, np.array([LONG])))
    x = np.array([3])
    leader = asyncio.create_task(ask(cache, batcher, x, deadline=Deadline.after(0.05)))
    follower = asyncio.create_task(ask(cache, batcher, x))
    with pytest.raises(DeadlineExceeded):
        await within(leader)
    held.cancel()
    assert (await within(follower)).outputs["y"].tolist() == [3]


async def test_who_waits_has_a_deadline_of_his_own(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(slow()), make_cache()
    leader = asyncio.create_task(ask(cache, batcher, np.array([LONG])))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="waiting for an equal call"):
        await ask(cache, batcher, np.array([LONG]), deadline=Deadline.after(0.05))
    # The run goes on for who began it.
    assert not leader.done()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(leader)


async def test_an_error_is_told_to_all_who_wait_and_not_kept(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(picky()), make_cache()
    wrong = np.array([99])
    told = await within(
        asyncio.gather(*(ask(cache, batcher, wrong) for _ in range(8)), return_exceptions=True)
    )
    assert all(isinstance(error, InvalidArgument) for error in told)
    assert len(cache) == 0
    with pytest.raises(InvalidArgument):
        await ask(cache, batcher, wrong)


async def test_nobody_waits_for_one_who_is_less_urgent(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(linear()), make_cache()
    x = np.ones((1, 16), np.float32)
    await asyncio.gather(
        ask(cache, batcher, x, priority=Priority.BATCH), ask(cache, batcher, x), ask(cache, batcher, x)
    )
    assert (cache.counts.hits, cache.counts.misses) == (1, 2)
    assert len(cache) == 1
    await ask(cache, batcher, x, priority=Priority.BATCH)
    assert cache.counts.hits == 2


async def test_the_bytes_are_bounded_and_the_least_used_goes_first(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(identity("FP32"))
    cache = make_cache(3 * 20_000)
    one, two, three, four = (np.full((1, 4096), value, np.float32) for value in range(4))
    for x in (one, two, three):
        await ask(cache, batcher, x)
    await ask(cache, batcher, one)
    await ask(cache, batcher, four)
    assert len(cache) == 3
    assert cache.n_bytes <= cache.max_bytes
    assert cache.counts.evictions == 1
    hits = cache.counts.hits
    for x in (one, three, four):
        await ask(cache, batcher, x)
    assert cache.counts.hits == hits + 3
    await ask(cache, batcher, two)
    assert cache.counts.hits == hits + 3
    # One that is larger than all of it is answered and not kept.
    await ask(cache, batcher, np.zeros((1, 100_000), np.float32))
    assert len(cache) == 3
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)


async def test_a_row_does_not_keep_its_batch(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(identity("FP32"), max_queue_delay_s=0.2), make_cache()
    rows = [np.full((1, 8), value, np.float32) for value in range(8)]
    answers = await asyncio.gather(*(ask(cache, batcher, row) for row in rows))
    assert {answer.batch_size for answer in answers} == {8}
    for row in rows:
        kept = (await ask(cache, batcher, row)).outputs["y"]
        np.testing.assert_array_equal(kept, row)
        assert kept.base is None


async def test_large_inputs_are_digested_off_the_loop_and_found_again(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(identity("FP32")), make_cache(8 << 20)
    x = np.random.default_rng(3).random((1, 300_000), np.float32)
    await ask(cache, batcher, x)
    np.testing.assert_array_equal((await ask(cache, batcher, x.copy())).outputs["y"], x)
    assert cache.counts.hits == 1


async def test_hits_count_as_triton_counts_them(make_batcher: MakeBatcher) -> None:
    batcher, cache = make_batcher(linear()), make_cache()
    report = Report()
    set_report(report)
    for _ in range(3):
        await ask(cache, batcher, np.ones((4, 16), np.float32))
    counts = batcher.statistics.to_message("graph", "1")
    assert (counts.inference_count, counts.execution_count) == (4, 1)
    sums = counts.inference_stats
    assert (sums.success.count, sums.queue.count, sums.compute_infer.count) == (3, 3, 1)
    assert (sums.cache_hit.count, sums.cache_miss.count, sums.fail.count) == (2, 1, 0)
    assert sums.cache_hit.ns > 0
    assert sums.cache_miss.ns > 0
    assert "test/graph@1" in report.models
