"""Memory of versions that end goes back to the system."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.waiting import within

ROOT = Path(__file__).parents[4]


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries give memory back in their own time")
async def test_memory_of_versions_that_end_goes_back(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.shared.inference.repository.memory_cycles",
        tmp_path,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await within(process.communicate(), 90)
    assert process.returncode == 0
    said = json.loads(out.splitlines()[-1])
    assert sorted(said["given_back"])[1] >= 0.9, said
    # Swaps leave one version, refusals none.
    assert said["left"] < 0.5, said
    assert said["ready"] == ["8"]
