"""Texts of one call wait side by side, few enough that another call's turn comes soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from services.nlp.embedder import Embedder
from services.nlp.pipeline.tokens import Tokens, make_row
from services.nlp.reading import Reading
from shared.errors import DeadlineExceeded
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline
from tests.support.waiting import within


@pytest.fixture
async def repository(models_dir: Path):
    repository = Repository(models_dir / "nlp", "nlp", InferenceSettings(watch_s=0), {})
    await within(repository.load_all(), 60.0)
    yield repository
    await within(repository.close())


def make_texts(*lengths: int) -> list[Reading]:
    rng = np.random.default_rng(1)
    rows = [(101, *rng.integers(2000, 20000, length - 2).tolist(), 102) for length in lengths]
    return [
        Reading(make_row(Tokens(ids, truncated=False)), len(ids), truncated=False, supported=True)
        for ids in rows
    ]


async def test_texts_are_answered_in_order_whatever_runs_together(repository: Repository) -> None:
    model = repository.model("minilm", "EmbedText")
    embedder = Embedder(model.artifact)
    texts = make_texts(40, 4, 17, 4, 90, 41, 39, 5)
    watches = [ItemStopwatch() for _ in texts]
    together = await within(embedder.embed(model, texts, watches, Deadline.after(30)), 30)
    for text, vector, watch in zip(texts, together, watches, strict=True):
        (alone,) = await within(embedder.embed(model, [text], [ItemStopwatch()], Deadline.after(30)), 30)
        np.testing.assert_allclose(vector, alone, atol=1e-5)
        assert watch.compute_s > 0


async def test_a_long_list_never_fills_the_queue(repository: Repository) -> None:
    model = repository.model("minilm", "EmbedText")
    batcher = model.graphs["model"].batcher
    texts = make_texts(*[100] * 40)
    embedder = Embedder(model.artifact)
    most = 0.0
    done = asyncio.Event()

    async def look() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, batcher.load().queued_cost)
            await asyncio.sleep(0)

    async def embed() -> None:
        watches = [ItemStopwatch() for _ in texts]
        assert len(await embedder.embed(model, texts, watches, Deadline.after(60))) == 40
        done.set()

    await within(asyncio.gather(embed(), look()), 60)
    assert 100 < most <= 1024


async def test_a_list_that_fails_leaves_nothing_in_the_queue(repository: Repository) -> None:
    model = repository.model("minilm", "EmbedText")
    batcher = model.graphs["model"].batcher
    texts = make_texts(*[200] * 60)
    embedder = Embedder(model.artifact)
    with pytest.raises(DeadlineExceeded):
        await within(embedder.embed(model, texts, [ItemStopwatch() for _ in texts], Deadline.after(0.2)), 30)
    load = batcher.load()
    assert load.queued_items == 0
    assert len(asyncio.all_tasks()) == 1
