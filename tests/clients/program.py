"""The program of one language: whether its tools are there, how it is built, and its round against a mesh."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.expectation import Round
from tests.clients.flaky_proxy import flaky_proxy
from tests.mesh.running import ROOT, RunningMesh

# Compiling the messages of C++ takes the longest.
_BUILD_S, _ROUND_S = 900, 120


class ProgramError(Exception):
    """A program could not be built, or did not end well; the text is what it said."""


@dataclass(frozen=True)
class Program:
    """What `clients/<language>/Makefile` runs."""

    language: str

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return ROOT / "clients" / self.language

    def missing_tools(self) -> str:
        """What has to be installed, in a line; empty if everything is there."""
        if not (self.folder / "Makefile").is_file():
            return f"clients/{self.language} is not there"
        done = self._make("check-tools", timeout_s=30)
        return (
            "" if done.returncode == 0 else (_last_line(done.stdout + done.stderr) or "its tools are missing")
        )

    def build(self) -> None:
        """Makes stubs and program. Raises ProgramError."""
        done = self._make("build", timeout_s=_BUILD_S)
        if done.returncode:
            raise ProgramError(f"build: {done.stdout}{done.stderr}")

    def run(self, mesh: RunningMesh, photo: Path, clip: Path, transcript: str) -> Round:
        """One round, through a flaky proxy of its own where the round says so. Raises ProgramError."""
        with flaky_proxy(mesh.address) as proxy:
            environ = {**mesh.environ(), "SENSORIUM_FLAKY_ADDRESS": proxy.address}
            done = self._make("round", f"PHOTO={photo}", f"CLIP={clip}", environ=environ, timeout_s=_ROUND_S)
        if done.returncode:
            raise ProgramError(f"round: {done.stdout}{done.stderr}")
        return Round(self._read(done.stdout), tuple(proxy.attempts), transcript)

    def _read(self, printed: str) -> dict[str, Any]:
        try:
            said = json.loads(printed)
        except json.JSONDecodeError as error:
            raise ProgramError(f"round: expected one JSON object, got {printed[:500]!r}") from error
        if not isinstance(said, dict):
            raise ProgramError(f"round: expected one JSON object, got {printed[:500]!r}")
        return said

    def _make(
        self, target: str, *variables: str, timeout_s: float, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = ["make", "-s", "-C", str(self.folder), target, *variables]
        try:
            return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"{target}: not done within {timeout_s:g} s") from error


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("make")]
    return lines[-1] if lines else ""
