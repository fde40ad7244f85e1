"""Runs of the open-loop generator (`generator.py`), a process of its own, and what is read from them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.generator import Calls, Plan, Result, Stream
from tests.mesh.running import ROOT

Run = Callable[[float, Sequence[Stream]], Result]


@contextlib.contextmanager
def open_loop(address: str, method: str, body: Path) -> Iterator[Run]:
    """Starts a generator; gives what runs streams for so many seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.generator", address, method, str(body)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    seed = 0

    def run(duration_s: float, streams: Sequence[Stream]) -> Result:
        nonlocal seed
        # Another one for each run: the same arrivals again would be the same accident again.
        seed += 1
        stdin.write(json.dumps(asdict(Plan(duration_s, tuple(streams), seed))) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise SystemExit(f"the load generator ended with status {process.wait()}")
        said = json.loads(line)
        return Result([Calls(**calls) for calls in said["streams"]], said["wall_s"], said["cpu_s"])

    try:
        yield run
    finally:
        stdin.close()
        process.wait(timeout=30)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values do not exceed; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def latencies_s(calls: Calls, code: str = "OK", *, since_s: float = 0.0) -> list[float]:
    """How long calls took that were due at `since_s` or later and ended with `code`."""
    return [
        took_s
        for due_s, took_s, got in zip(calls.due_s, calls.took_s, calls.codes, strict=True)
        if got == code and due_s >= since_s
    ]
