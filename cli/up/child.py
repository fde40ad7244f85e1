"""Keeps one process of the mesh alive: start, publish where it listens, start again when it ends."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from cli.failure import CommandError
from cli.up.backoff import Backoff
from cli.up.process import Process, ProcessPlan, describe_end
from shared.errors import RESTART_CODE

# A process that ends this often before it ever listened will not get better by itself.
_FIRST_TRIES = 3
# How long a drain may take before it is cut: the replicas' own bound (20 s) and room to close.
DRAIN_S = 30.0
# Between tries to write where a process listens, most likely because the disk is full.
_AGAIN_S = 1.0


class ChildError(CommandError):
    """A process of the mesh cannot start; the text is its own last words."""


class Child:
    """One process and its restarts.

    publish: told the address when it listens, and None when it is gone. on_restart: told why it is started again.
    find_crash: which model crashed the process of a number, in words; "" if none did.
    """

    def __init__(
        self,
        plan: ProcessPlan,
        *,
        publish: Callable[[str | None], None],
        note: Callable[[str], None],
        on_restart: Callable[[str], None] = lambda why: None,
        find_crash: Callable[[int], str] = lambda pid: "",
        backoff: Backoff | None = None,
    ) -> None:
        self.plan = plan
        self.listening = asyncio.Event()
        self.address = ""
        self._publish = publish
        self._note = note
        self._on_restart = on_restart
        self._find_crash = find_crash
        self._backoff = backoff or Backoff()
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Runs and restarts it until `stop`.

        Raises:
            ChildError: it never listened: it ended by itself saying why, or was killed several times.
        """
        tries = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            pid, code = await self._run_once()
            if self._stopping.is_set():
                return
            crash = self._find_crash(pid) if code < 0 else ""
            # A model that is found guilty is kept out the third time: such ends have an end.
            tries += 0 if crash else 1
            reason = crash or self.plan.log.last_words()
            if not self.listening.is_set() and ((code > 0 and code != RESTART_CODE) or tries == _FIRST_TRIES):
                raise ChildError(
                    reason or f"{self.plan.name} {describe_end(code)} (log: {self.plan.log.path})"
                )
            wait_s = self._backoff.next_s(time.monotonic() - started_s)
            why = f"{describe_end(code)}: {reason}" if reason and (code > 0 or crash) else describe_end(code)
            when = f" in {wait_s:.1f} s" if wait_s else ""
            self._note(f"{self.plan.name} {why}; starting it again{when}")
            with contextlib.suppress(OSError):  # a disk that is full must not end the mesh
                self._on_restart(why)
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                continue

    async def stop(self, drain_s: float = DRAIN_S) -> None:
        """Drains it; one that takes longer than `drain_s` is killed."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.ended(), drain_s)
        except TimeoutError:
            self._note(f"{self.plan.name} did not end within {drain_s:.0f} s and is killed")
            process.kill()

    def kill(self) -> None:
        """Ends it at once, in-flight calls included."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()

    async def _run_once(self) -> tuple[int, int]:
        """Its process id and exit code, or minus the signal."""
        process = await Process.start(self.plan)
        self._process = process
        announcement = asyncio.create_task(self._announce(process))
        try:
            return process.pid, await process.ended()
        finally:
            announcement.cancel()
            self._process = None
            with contextlib.suppress(OSError):
                self._publish(None)

    async def _announce(self, process: Process) -> None:
        self.address = await process.listening()
        told = ""
        while True:
            try:
                self._publish(self.address)
                break
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    self._note(f"{self.plan.name} listens, and cannot be announced yet: {told}")
            await asyncio.sleep(_AGAIN_S)
        self.listening.set()
