"""Fixtures of training's tests: data sets as pulled, one thread, and scripts started as users start them.

These run in the environment of `make test-training`. Without torch they fail, they are not skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

if importlib.util.find_spec("torch") is None:
    raise pytest.UsageError("tests/training needs torch: run `make test-training`")

# As many threads in a test as in the scripts it starts: sums of another order round differently.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from shared.settings import state_dir

ROOT = Path(__file__).parents[2]

# Runs a training script in a process of its own: its module, its arguments; `processes` > 1 goes through torchrun.
RunScript = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def datasets() -> Path:
    """`<state>/datasets`, where `sensorium data pull` unpacks."""
    folder = state_dir() / "datasets"
    assert folder.is_dir(), f"{folder} is missing: run `make data` first"
    return folder


@pytest.fixture(scope="session")
def run_script() -> RunScript:
    """Runs `python -m MODULE ARGUMENTS…` from the checkout and returns what it printed and how it ended.

    processes: > 1 starts so many by torchrun; timeout_s: after which the test fails; environ: more variables.
    """

    def run(
        module: str,
        *arguments: object,
        processes: int = 1,
        timeout_s: float = 250,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(processes), "-m", module, *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(environ or {})},
        )

    return run


def command(processes: int) -> list[str]:
    """The interpreter that runs a module, or torchrun on a free port for several processes."""
    if processes == 1:
        return [sys.executable]
    return [
        str(Path(sys.executable).with_name("torchrun")),
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
