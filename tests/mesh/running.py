"""A mesh started by the real command, as its user would: `sensorium up` in a state folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.inference.signature import OWN_KEYS

ROOT = Path(__file__).parents[2]
READY = re.compile(r"Sensorium is ready at http://([\w.:\[\]-]+)")
START_S, STOP_S = 90, 45


@dataclass(frozen=True)
class RunningMesh:
    """A mesh that answers: where it is, its development token, its state folder, its supervisor."""

    address: str
    token: str
    state: Path
    process: subprocess.Popen[str]

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """Metadata of a gRPC call with the development token."""
        return [("authorization", f"Bearer {self.token}")]

    def environ(self) -> dict[str, str]:
        """Environment for a client program of this mesh."""
        return {**os.environ, "SENSORIUM_ADDRESS": self.address, "SENSORIUM_TOKEN": self.token}


def make_state(folder: Path, models: Path) -> Path:
    """A fresh state folder that shares the pulled models, which are immutable, and the key that signed them."""
    (folder / OWN_KEYS).parent.mkdir(parents=True)
    shutil.copy(models.parent / OWN_KEYS, folder / OWN_KEYS)
    (folder / "models").symlink_to(models, target_is_directory=True)
    return folder


def start(
    state: Path, *flags: str, environ: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.Popen[str]:
    """Starts `sensorium up` on a free port; its log of one line a problem is on standard error."""
    command = [sys.executable, "-m", "cli", "up", "--port", "0", "--state-dir", str(state), *flags]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_ready(process: subprocess.Popen[str], timeout_s: float = START_S) -> str:
    """The address out of the ready line; fails with what the command said if it ends or is late."""
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            if found := READY.search(line):
                return found[1]
            if not line:
                break
    process.kill()
    _, said = process.communicate(timeout=STOP_S)
    raise AssertionError(f"the mesh did not become ready in {timeout_s} s: {said}")


def stop(process: subprocess.Popen[str]) -> int:
    """Ctrl-C; the exit status."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode


@contextlib.contextmanager
def running_mesh(
    state: Path, *flags: str, environ: dict[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[RunningMesh]:
    """A mesh for the length of a `with` block."""
    process = start(state, *flags, environ=environ, cwd=cwd)
    try:
        address = wait_ready(process)
        yield RunningMesh(address, (state / "token").read_text().strip(), state, process)
    finally:
        if process.poll() is None:
            stop(process)


def children(pid: int) -> dict[int, list[str]]:
    """Living children of a process, with the words of their command lines."""
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it ended while we looked
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(entry.name)] = (entry / "cmdline").read_text().split("\0")
    return found


def replica_pids(mesh: RunningMesh) -> dict[str, list[int]]:
    """Process ids of the replicas by service: the supervisor's children that run `python -m services.<name>`."""
    found: dict[str, list[int]] = {}
    for pid, words in children(mesh.process.pid).items():
        if service := next(
            (word.removeprefix("services.") for word in words if word.startswith("services.")), None
        ):
            found.setdefault(service, []).append(pid)
    return found


def gateway_pids(mesh: RunningMesh) -> list[int]:
    """Process ids of the gateway: its control plane and the Envoy that it supervises."""
    (control,) = (pid for pid, words in children(mesh.process.pid).items() if "gateway" in words)
    return [control, *children(control)]


def run(
    command: Sequence[str | Path], mesh: RunningMesh, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs a client program against the mesh."""
    return subprocess.run(
        command, cwd=ROOT, env=mesh.environ(), capture_output=True, text=True, timeout=timeout_s
    )
