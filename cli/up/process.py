"""One process of the mesh: how it is started, how it says where it listens, how it is ended."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.up.log_file import LogFile
from shared.errors import RESTART_CODE

# While a process starts, its address file is looked for this often; it is a matter of a second or two.
_LOOK_S = 0.05


@dataclass(frozen=True)
class ProcessPlan:
    """What to run: `python -m <module>` with `environ`, which has to make it write `address_file` once it listens."""

    name: str
    service: str
    module: str
    environ: Mapping[str, str]
    address_file: Path
    log: LogFile


class Process:
    """A started process."""

    def __init__(self, plan: ProcessPlan, process: asyncio.subprocess.Process) -> None:
        self.plan = plan
        self._process = process

    @classmethod
    async def start(cls, plan: ProcessPlan) -> "Process":
        """Starts it in a session of its own: a Ctrl-C at the terminal is the supervisor's to pass on."""
        plan.address_file.parent.mkdir(parents=True, exist_ok=True)
        plan.address_file.unlink(missing_ok=True)
        log = plan.log.open()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "cli.up.tether",
                str(os.getpid()),
                plan.module,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(plan.environ),
                start_new_session=True,
            )
        finally:
            os.close(log)
        return cls(plan, process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def listening(self) -> str:
        """Waits until it says where it listens, and returns that; for ever if it never does."""
        while True:
            try:
                address = self.plan.address_file.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                address = ""
            if address:
                return address
            await asyncio.sleep(_LOOK_S)

    async def ended(self) -> int:
        """Waits for its end; the exit code, or minus the signal."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Asks it to drain and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and all that it started in its session, at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return


def read_command_line(pid: int) -> str:
    """The command line of any process; empty if there is none of that number."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return shown.stdout


def describe_end(code: int) -> str:
    """`ended with exit code 1`, `was ended by SIGKILL`, `restarted itself`."""
    if code == RESTART_CODE:
        return "restarted itself"
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
