"""Memory of versions that end goes back to the system."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from shared.errors import FailedPrecondition
from shared.inference.artifact import Tensor, write_artifact
from shared.inference.repository.repository import Repository
from shared.rpc.allocator import free_large_blocks_at_once
from shared.rpc.deadline import Deadline
from tests.shared.inference.graphs import draft_graph, draft_of, entry_of, linear, write_model
from tests.shared.inference.repository.opened import loaded
from tests.support.memory import resident_bytes
from tests.support.waiting import within

SIDE = 2048  # of a matrix of 16 MiB, far above what else moves in the process


def write_large(models_dir: Path, version: str, *, right: bool = True) -> None:
    weights = np.full((SIDE, SIDE), 2.0, np.float32)
    graph = draft_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [Tensor("x", "FP32", (-1, SIDE))],
        [Tensor("y", "FP32", (-1, SIDE))],
        {"w": weights},
    )
    x = np.ones((1, SIDE), np.float32)
    golden = {"model/in/x": x, "model/out/y": x @ weights if right else x}
    write_artifact(models_dir, entry_of("large", version), replace(draft_of(graph, linear()), golden=golden))


async def run(repository: Repository) -> None:
    x = np.ones((8, SIDE), np.float32)
    await within(repository.model("large", "").infer({"x": x}, deadline=Deadline.after(5)))


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries give memory back in their own time")
async def test_memory_of_versions_that_end_goes_back(tmp_path: Path) -> None:
    # As every replica does.
    assert free_large_blocks_at_once()
    write_model(tmp_path, "line", linear())
    async with loaded(tmp_path, graph_cache_bytes=0) as repository:
        shares = []
        for number in range(1, 4):
            before = resident_bytes()
            write_large(tmp_path, str(number))
            await within(repository.load_model("large"))
            await run(repository)
            taken = resident_bytes() - before
            await within(repository.unload_model("large"))
            await within(repository.wait_settled())
            shares.append((taken - (resident_bytes() - before)) / taken)
        assert sorted(shares)[1] >= 0.9, shares

        # Swaps leave one version, refusals none.
        await within(repository.load_model("large"))
        await run(repository)
        before = resident_bytes()
        for number in range(4, 8):
            write_large(tmp_path, str(number), right=number % 2 == 0)
            if number % 2:
                with pytest.raises(FailedPrecondition, match="golden"):
                    await within(repository.load_model("large"))
            else:
                await within(repository.load_model("large"))
            await run(repository)
        await within(repository.wait_settled())
        assert resident_bytes() - before < 4 * SIDE * SIDE
