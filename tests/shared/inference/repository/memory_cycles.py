"""Loads, swaps, refusals and unloads in a process of its own, and what they do to its memory: `python -m … FOLDER`.

Prints one JSON object: the share of what loading took that unloading gave back, for each round, and how many models' worth
of memory four versions that follow one another leave behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import helper

from shared.errors import FailedPrecondition
from shared.inference.artifact import Tensor, write_artifact
from shared.inference.repository.repository import Repository
from shared.rpc.allocator import free_large_blocks_at_once
from shared.rpc.deadline import Deadline
from shared.telemetry.logging import configure
from tests.shared.inference.graphs import draft_graph, draft_of, entry_of, linear
from tests.shared.inference.repository.opened import loaded
from tests.support.memory import resident_bytes

SIDE = 1536  # of a matrix of 9 MiB, far above what else moves in the process


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
    await repository.model("large", "").infer({"x": x}, deadline=Deadline.after(30))


async def cycle(folder: Path) -> dict[str, object]:
    for number in range(1, 5):
        write_large(folder, str(number))
    for number in range(5, 9):
        write_large(folder / ".later", str(number), right=number % 2 == 0)
    models = folder / "large"
    async with loaded(folder, graph_cache_bytes=0) as repository:
        shares = []
        for _ in range(4):
            await repository.unload_model("large")
            await repository.wait_settled()
            before = resident_bytes()
            await repository.load_model("large")
            await run(repository)
            taken = resident_bytes() - before
            await repository.unload_model("large")
            await repository.wait_settled()
            shares.append((taken - (resident_bytes() - before)) / taken)
        await repository.load_model("large")
        await run(repository)
        before = resident_bytes()
        for number in range(5, 9):
            (folder / ".later" / "large" / str(number)).rename(models / str(number))
            # Every second one is refused.
            with contextlib.suppress(FailedPrecondition):
                await repository.load_model("large")
            await run(repository)
        await repository.wait_settled()
        left = (resident_bytes() - before) / (4 * SIDE * SIDE)
        return {"given_back": shares, "left": left, "ready": repository.list_ready("large")}


if __name__ == "__main__":
    free_large_blocks_at_once()  # as every replica does
    configure("error")
    print(json.dumps(asyncio.run(cycle(Path(sys.argv[1])))))
