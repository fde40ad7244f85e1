"""The models that `tritonclient_surface.py` asks for, and what it says of a server that has them."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

from onnx import helper

from shared.inference.artifact import Tensor, write_artifact
from shared.inference.datatypes import NUMPY_TYPES
from tests.shared.inference.graphs import (
    draft_graph,
    draft_of,
    entry_of,
    identity,
    linear,
    picky,
    slow,
    two_of_each,
)
from tests.support.waiting import within

PYTHON = Path(__file__).parents[4] / ".venv-tritonclient/bin/python"
SCRIPT = Path(__file__).with_name("tritonclient_surface.py")
LIMIT_S = 100.0


def write_models(folder: Path, service: str) -> None:
    """Writes them into a service's folder of models."""
    graphs = {
        **{f"same-{datatype}": identity(datatype) for datatype in NUMPY_TYPES},
        "line": linear(),
        "slow": slow(),
        "classes": draft_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            [Tensor("x", "FP32", (-1, 2))],
            [Tensor("y", "FP32", (-1, 2))],
        ),
    }
    drafts = {name: draft_of(graph) for name, graph in graphs.items()}
    drafts["pair"] = draft_of(sums=two_of_each(), picks=replace(picky(), file="picks.onnx"))
    for name, draft in drafts.items():
        write_artifact(folder, entry_of(name, service=service), draft)


async def ask(address: str, token: str = "") -> dict[str, str]:
    """Check -> "" or what went wrong."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        SCRIPT,
        address,
        env={**environ, **({"SENSORIUM_TOKEN": token} if token else {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await within(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await within(process.wait())
    assert process.returncode == 0, err.decode()
    said: dict[str, str] = json.loads(out)
    return said
