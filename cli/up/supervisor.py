"""All processes of a mesh from start to drain. What each of them is: `cli.up.plan`; how one is kept alive: `child`."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cli.failure import CommandError
from cli.up.child import Child
from cli.up.endpoints import Endpoints, endpoints_folder
from cli.up.plan import MeshPlan, has_models
from cli.up.process import read_command_line
from cli.up.ready import Readiness, wait_ready
from cli.up.restarts import Restarts, restarts_folder
from gateway.envoy.process import read_record
from gateway.place import Run
from shared.errors import StartupError
from shared.inference.isolation.marker import find_crash
from shared.inference.isolation.record import record_folder

# From nothing to every model loaded and checked, on a slow machine with cold files.
START_TIMEOUT_S = 180.0
# A key press may arrive twice, by the terminal and by a parent that passes it on: this soon it is the same wish.
_IMPATIENT_AFTER_S = 1.0
# Logs are looked at, and the token is renewed, this often.
_CARE_S = 10.0


class Supervisor:
    """Runs a mesh. note: told what the user should know. token: the text of the development token, now."""

    def __init__(self, plan: MeshPlan, *, note: Callable[[str], None], token: Callable[[], str]) -> None:
        self._plan = plan
        self._note = note
        self._token = token
        self._killed = False
        self._endpoints = Endpoints(endpoints_folder(plan.state))
        restarts = Restarts(restarts_folder(plan.state))
        self._pids = plan.state / "run" / "pids"
        self.gateway = Child(plan.gateway, publish=partial(self._publish, "", "gateway"), note=note)
        self.replicas = [
            Child(
                replica,
                publish=partial(self._publish, replica.service, replica.name),
                note=note,
                on_restart=partial(restarts.add, replica.name),
                find_crash=partial(_find_crash, plan.state, replica.service),
            )
            for replica in plan.replicas
        ]

    async def run(self, on_ready: Callable[[str, Readiness], None]) -> int:
        """Starts everything, calls `on_ready` with the address, and returns after a signal when all has ended.

        SIGINT and SIGTERM drain; a second one kills. Returns the exit code: 0 after a drain, 130 if it was
        interrupted before it was ready, or in its drain.

        Raises:
            ChildError: a process cannot start.
            CommandError: the mesh did not become ready in time, or no model of it serves.
        """
        stop = asyncio.Event()
        children = [self.gateway, *self.replicas]
        with self._signals(stop):
            tasks = [asyncio.create_task(child.run(), name=child.plan.name) for child in children]
            tasks.append(asyncio.create_task(self._care(), name="care"))
            ready = asyncio.create_task(self._become_ready(on_ready))
            stopped = asyncio.create_task(stop.wait())
            try:
                await self._wait([ready, stopped, *tasks], until={ready, stopped})
                await self._wait([stopped, *tasks], until={stopped})
            finally:
                ready.cancel()
                stopped.cancel()
                await self._stop()
                tasks[-1].cancel()
                await asyncio.gather(ready, stopped, *tasks, return_exceptions=True)
        return 130 if self._killed or ready.cancelled() else 0

    async def _wait(self, tasks: Sequence["asyncio.Task[Any]"], until: set["asyncio.Task[Any]"]) -> None:
        """Waits until one of `until` is done; a task that failed before ends it all with its error."""
        pending = set(tasks)
        while not until - pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _become_ready(self, on_ready: Callable[[str, Readiness], None]) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                for child in [self.gateway, *self.replicas]:
                    await child.listening.wait()
        except TimeoutError:
            silent = [c.plan for c in [self.gateway, *self.replicas] if not c.listening.is_set()]
            logs = ", ".join(str(plan.log.path) for plan in silent)
            raise CommandError(f"not ready after {START_TIMEOUT_S:.0f} s; see {logs}") from None
        services = {service: has_models(service) for service in self._plan.services}
        found = await wait_ready(self.gateway.address, self._token(), services, timeout_s=START_TIMEOUT_S)
        if found.missing:
            raise CommandError(f"not ready after {START_TIMEOUT_S:.0f} s: {found.missing}")
        if found.failed and not found.serving:
            raise CommandError(f"no model serves: {'; '.join(found.failed)}")
        on_ready(self.gateway.address, found)

    async def _stop(self) -> None:
        """The gateway first: its callers' calls end while the replicas still answer."""
        await self.gateway.stop()
        self._kill_envoy()
        await asyncio.gather(*(replica.stop() for replica in self.replicas))

    def _kill_envoy(self) -> None:
        """Ends a data plane that is left: it outlives its gateway by design, but not the whole mesh."""
        run = Run(self._plan.state / "run" / "gateway")
        record = read_record(run.record)
        # The number may be somebody else's by now: ours was started with our bootstrap.
        if record is not None and str(run.bootstrap) in read_command_line(record.pid):
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)

    async def _care(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(_CARE_S)
            try:
                for child in [self.gateway, *self.replicas]:
                    child.plan.log.rotate()
                self._token()
                told = ""
            except (StartupError, OSError) as error:
                # Nothing that the mesh needs in order to serve on.
                if str(error) != told:
                    told = str(error)
                    self._note(f"logs cannot be rotated or the token not be renewed: {told}")

    def _publish(self, service: str, name: str, address: str | None) -> None:
        child = self.gateway if not service else next(c for c in self.replicas if c.plan.name == name)
        if service:
            self._endpoints.publish(service, name, address)
        self._pids.mkdir(parents=True, exist_ok=True)
        path = self._pids / name
        if address is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(f"{child.pid}\n", encoding="utf-8")

    @contextmanager
    def _signals(self, stop: asyncio.Event) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        asked_s = 0.0

        def on_signal() -> None:
            nonlocal asked_s
            if not stop.is_set():
                asked_s = time.monotonic()
                stop.set()
                return
            if time.monotonic() - asked_s < _IMPATIENT_AFTER_S:
                return
            self._killed = True
            self._note("killing what is left")
            for child in [self.gateway, *self.replicas]:
                child.kill()
            self._kill_envoy()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def _find_crash(state: Path, service: str, pid: int) -> str:
    """Which model crashed a replica that has just ended, in words; "" if none did."""
    try:
        crash = find_crash(record_folder(state, service), pid)
    except OSError:
        return ""
    if crash is None or not crash.suspects:
        return ""
    return f"{' or '.join(f'{service}/{suspect.model}' for suspect in crash.suspects)}: {crash.reason}"
