"""What a scrape sees of the models, and a balancer of what waits before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from shared.inference.metrics import InferenceMetrics
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline
from shared.rpc.load import Backlog
from shared.telemetry.metrics import make_registry
from tests.shared.inference.graphs import linear, picky, slow, write_model
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

LABELS = {"model": "test/line", "version": "1", "graph": "line"}


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    write_model(tmp_path, "line", linear())
    write_model(tmp_path, "picks", picky())
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    await within(repository.load_all())
    yield repository
    await within(repository.close())


async def infer(repository: Repository, name: str, value: np.ndarray) -> None:
    model = repository.model(name, "")
    await within(model.infer({"x": value}, deadline=Deadline.after(10)))


async def test_histograms_count_every_answer(repository: Repository) -> None:
    registry = make_registry(InferenceMetrics(repository, cores=1))
    for _ in range(3):
        await infer(repository, "line", np.ones((2, 16), np.float32))
    for name in ("queue_seconds", "batch_seconds", "compute_seconds", "batch_rows"):
        # From the thread of a scrape.
        count = await within(
            asyncio.to_thread(registry.get_sample_value, f"sensorium_inference_{name}_count", LABELS)
        )
        assert count == 3, name
    assert registry.get_sample_value("sensorium_inference_batch_rows_sum", LABELS) == 6
    assert registry.get_sample_value("sensorium_inference_queue_items", LABELS) == 0
    assert registry.get_sample_value("sensorium_inference_run_cost_total", LABELS) == 6


async def test_failures_are_counted_by_reason(repository: Repository) -> None:
    registry = make_registry(InferenceMetrics(repository, cores=1))
    with pytest.raises(Exception, match="picks"):
        await infer(repository, "picks", np.array([9], np.int64))
    labels = {"model": "test/picks", "version": "1", "graph": "picks"}
    failed = {**labels, "reason": "failed"}
    assert registry.get_sample_value("sensorium_inference_unanswered_items_total", failed) == 1
    expired = {**labels, "reason": "expired"}
    assert registry.get_sample_value("sensorium_inference_unanswered_items_total", expired) == 0


async def test_the_backlog_is_what_waits(tmp_path: Path) -> None:
    write_model(tmp_path, "slow", slow(1))
    repository = Repository(
        tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1, golden_check=False), {}
    )
    await within(repository.load_all())
    metrics = InferenceMetrics(repository, cores=2)
    assert metrics.backlog() == Backlog(0, 0.0)
    model = repository.model("slow", "")
    calls = [
        asyncio.create_task(model.infer({"x": np.array([turns], np.int64)}, deadline=Deadline.after(20)))
        for turns in (50_000_000, 1, 1, 1)
    ]
    try:
        async with asyncio.timeout(10):
            while metrics.backlog().items != 3:
                await asyncio.sleep(0)
    finally:
        for call in calls:
            call.cancel()
        await within(asyncio.gather(*calls, return_exceptions=True))
    assert metrics.backlog().items == 0
    await within(repository.close())
