"""Batchers over real graphs, closed when the test ends."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from shared.inference.artifact import GraphDraft
from shared.inference.batching.batcher import Batcher
from shared.inference.session.session import Session
from shared.telemetry import logging
from tests.shared.inference.graphs import signature_of
from tests.support.serving import front
from tests.support.waiting import within

__all__ = ["front"]

MakeBatcher = Callable[..., Batcher]


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What loading learns of the tests' graphs does not end up in the user's state folder."""
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def logged() -> io.StringIO:
    """What is logged from now on, one JSON object per line."""
    lines = io.StringIO()
    logging.configure(stream=lines)
    return lines


@pytest.fixture
async def make_batcher(tmp_path: Path) -> AsyncIterator[MakeBatcher]:
    """Makes a batcher over a graph: `make_batcher(linear(), max_batch_size=3, …)`."""
    made: list[Batcher] = []

    def make(draft: GraphDraft, **options: Any) -> Batcher:
        file = tmp_path / f"{len(made)}.onnx"
        file.write_bytes(draft.content)
        options.setdefault("max_batch_size", draft.max_batch_size)
        made.append(Batcher(Session(file), signature_of(draft), name="test/graph", **options))
        return made[-1]

    yield make
    for batcher in made:
        await within(batcher.close())
