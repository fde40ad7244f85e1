"""The isolation of one process: guards for its threads, which models must not be loaded, and what follows a hang.

Here: what the rest of the runtime sees, and the way from a finding to its consequence. Not here: how hangs are found
(`watch.py`), how crashes are (`marker.py`), how blame is counted (`record.py`).

A hang: the model is taken out at once, so that the gateway sends its calls elsewhere. If the run lets go, the model is
loaded afresh; if not, the replica drains and ends for its supervisor to start it again, since no thread can be killed.
A crash ends the process by itself: the next one on the same folder finds out whose fault it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from shared.errors import RESTART_CODE, RestartError, SensoriumError
from shared.inference.isolation.fault import give_signal_stack
from shared.inference.isolation.guard import Guard, make_unwatched_guard
from shared.inference.isolation.loading import loading_under
from shared.inference.isolation.marker import Marker, collect
from shared.inference.isolation.record import (
    Blamed,
    Record,
    Suspect,
    describe_quarantine,
    locked,
    record_folder,
)
from shared.inference.isolation.settings import IsolationSettings
from shared.inference.isolation.watch import Watch
from shared.settings import state_dir
from shared.telemetry.logging import get_logger

__all__ = ["Guard", "Isolation"]

_log = get_logger("inference")

# What a hang that let go counts: four of them make a quarantine. One call that the gateway tries on every replica must
# not be four, so that they count once in this time (seconds).
_LET_GO, _LET_GO_APART_S = 0.5, 60.0
# How long a healthy event loop takes at most to answer (seconds).
_LOOP_S = 2.0
# How often the record is looked at for models that were released (seconds).
_LOOK_S = 1.0


class Models(Protocol):
    """What isolation asks of the repository, on the event loop."""

    def take_out(self, name: str, version: str, reason: str) -> None:
        """Make a version unavailable at once; those who wait for it are told."""

    async def load_model(self, name: str, version: str = "") -> object:
        """Load a version (again)."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the watch found of a version, for the event loop."""

    what: Literal["out", "return", "stuck", "release"]
    model: str
    version: str
    reason: str = ""


class Isolation:
    """One per process, made in `__main__` on the event loop before any model is loaded, and given to the repository.

    Models are named with or without their service; their digest is what counts.

    Where its folder cannot be written (a read-only file system) it watches for hangs, and remembers nothing.
    """

    def __init__(self, folder: Path | None, service: str, settings: IsolationSettings) -> None:
        """Blame whom the processes before have left in `folder` (`record_folder`), and begin to watch.

        Without a folder nothing is watched, see `off`.
        """
        self._service, self._settings = service, settings
        self._causes = (f"{os.getpid()}-{os.urandom(4).hex()}-{number}" for number in itertools.count())
        self._record: Record | None = None
        self._marker: Marker | None = None
        self._watch: Watch | None = None
        self._last_resort: threading.Timer | None = None
        # Those who were refused, by digest: they are looked after for a release.
        self._refused: dict[str, Suspect] = {}
        self._looked_s = time.monotonic()
        if folder is None:
            return
        # What the watch has found, for `keep`; one entry for each hang, so that it needs no bound.
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._found: asyncio.Queue[_Finding] = asyncio.Queue()
        try:
            self._open(folder)
        except OSError as error:
            _log.warning("crashes of models are not remembered", reason=str(error))
        self._watch = Watch(
            settings,
            on_hang=self._on_hang,
            on_return=self._on_return,
            on_stuck=self._on_stuck,
            on_look=self._on_look,
        )
        self._watch.start()

    @classmethod
    def start(cls, service: str, settings: IsolationSettings) -> Isolation:
        """The isolation of a replica of this service, in the state folder of the environment."""
        return cls(record_folder(state_dir(), service), service, settings)

    @classmethod
    def off(cls) -> Isolation:
        """Watches nothing and blames nobody: for tests and tools."""
        return cls(None, "", IsolationSettings())

    def guard(self, model: str, version: str, graph: str, digest: str) -> Guard:
        """A guard for one thread's runs of one graph; `digest` is the artifact's. Close it when the thread ends."""
        model = self._get_bare(model)
        if self._watch is None:
            return make_unwatched_guard(model, version, graph, digest)
        watch, marker = self._watch, self._marker
        slot = None if marker is None else marker.take(Suspect(model, version, digest), graph)

        def name_thread(thread: int) -> None:
            give_signal_stack()
            guard.hasty = thread == self._loop_thread
            if marker is not None and slot is not None:
                marker.name_thread(slot, thread)

        def close(closed: Guard) -> None:
            watch.remove(closed)
            if marker is not None and slot is not None:
                marker.free(slot)

        guard = Guard(
            model,
            version,
            graph,
            digest,
            flags=bytearray(1) if marker is None or slot is None else marker.flags,
            slot=slot or 0,
            name_thread=name_thread,
            close=close,
        )
        watch.add(guard)
        return guard

    def loading(self, model: str, version: str, digest: str) -> AbstractContextManager[None]:
        """Around all that a thread does with a model outside of its batcher: opening, golden checks, measuring."""
        return loading_under(self.guard(model, version, "", digest))

    def quarantined(self, model: str, version: str, digest: str) -> str | None:
        """Why the artifact with this digest must not be loaded, in words for its user; None if it may be."""
        blamed = self._find_quarantine(digest)
        if blamed is None:
            return None
        self._refused[digest] = Suspect(self._get_bare(model), version, digest)
        return describe_quarantine(self._service, blamed)

    async def keep(self, models: Models) -> None:
        """Act on what the watch finds, until it is cancelled, which closes it; to be run beside the server.

        Raises:
            RestartError: a run does not return, so that the process has to end, at the latest after `restart_s`.
        """
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                found = await self._found.get()
                if found.what == "stuck":
                    raise RestartError(found.reason)
                if found.what == "out":
                    models.take_out(found.model, found.version, found.reason)
                    continue
                # Loading takes seconds, in which another may hang.
                task = asyncio.create_task(self._load(models, found))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """Watch no more, and leave nothing for the next process to judge."""
        if self._watch is not None:
            self._watch.close()
        if self._last_resort is not None:
            self._last_resort.cancel()
        if self._marker is not None:
            self._marker.remove()

    def _get_bare(self, model: str) -> str:
        return model.removeprefix(f"{self._service}/")

    async def _load(self, models: Models, found: _Finding) -> None:
        try:
            await models.load_model(found.model, found.version)
        except SensoriumError as error:
            _log.warning(
                "model not loaded again", model=found.model, version=found.version, reason=str(error)
            )

    def _open(self, folder: Path) -> None:
        record = Record(folder, blame_s=self._settings.blame_s)
        with locked(folder):
            for crash in collect(folder):
                models = [f"{self._service}/{suspect.model}" for suspect in crash.suspects]
                _log.error(
                    "a replica crashed before",
                    signal=crash.fault.what,
                    where=crash.fault.where,
                    models=models or "none was running on that thread",
                )
                if crash.suspects:
                    record.add_held(crash.suspects, cause=crash.cause, reason=crash.reason)
            marker = Marker(folder)
        marker.watch_faults()
        self._record, self._marker = record, marker

    # On the watch's thread.

    def _on_hang(self, guard: Guard, limit_s: float) -> None:
        if guard.loads:
            _log.error("loading hangs", model=guard.model, version=guard.version, limit_s=limit_s)
            return
        if guard.hasty:
            # It is run again on a thread, where it may take its time.
            _log.warning(
                "run holds the event loop up", model=guard.model, version=guard.version, limit_s=limit_s
            )
            return
        reason = f"it hangs: a run took more than {limit_s:g} s and was asked to stop"
        _log.error("model hangs", model=guard.model, version=guard.version, graph=guard.graph, reason=reason)
        self._tell(_Finding("out", guard.model, guard.version, reason))

    def _on_return(self, guard: Guard) -> None:
        _log.warning("hanging run returned", model=guard.model, version=guard.version, graph=guard.graph)
        # Loading that was slow could not be asked to stop: what it says now is taken as it is.
        if guard.loads or guard.hasty:
            return
        self._blame(guard, "a run of it hung and had to be stopped", _LET_GO, _LET_GO_APART_S)
        self._tell(_Finding("return", guard.model, guard.version))

    def _on_stuck(self, guard: Guard) -> None:
        what = "loading it" if guard.loads else "a run of it"
        self._blame(guard, f"{what} hung and did not stop", 1.0, 0.0)
        reason = f"{self._service}/{guard.model}: {what} hangs and does not stop"
        _log.error("replica restarts itself", reason=reason)
        self._tell(_Finding("stuck", guard.model, guard.version, reason))
        self._check_loop(reason)
        # The drain may itself be stuck.
        if self._last_resort is None:
            self._last_resort = threading.Timer(self._settings.restart_s, os._exit, (RESTART_CODE,))
            self._last_resort.daemon = True
            self._last_resort.start()

    def _check_loop(self, reason: str) -> None:
        """Small graphs run on the event loop: where it is what hangs, there is nothing to wait for."""
        answered = threading.Event()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(answered.set)
            if not answered.wait(_LOOP_S):
                sys.stderr.write(f"restarting: {reason}\n")
                sys.stderr.flush()
                os._exit(RESTART_CODE)

    def _on_look(self) -> None:
        now_s = time.monotonic()
        if self._record is None or self._watch is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        for digest, suspect in list(self._refused.items()):
            if self._find_quarantine(digest) is None:
                del self._refused[digest]
                _log.info("model is no longer quarantined", model=suspect.model, version=suspect.version)
                self._tell(_Finding("release", suspect.model, suspect.version))
        # What serves here may have been found guilty elsewhere.
        for guard in self._watch.guards:
            if guard.digest not in self._refused and (blamed := self._find_quarantine(guard.digest)):
                self._refused[guard.digest] = Suspect(guard.model, guard.version, guard.digest)
                reason = describe_quarantine(self._service, blamed)
                _log.error("model is quarantined", model=guard.model, version=guard.version, reason=reason)
                self._tell(_Finding("out", guard.model, guard.version, reason))

    def _find_quarantine(self, digest: str) -> Blamed | None:
        blamed = None if self._record is None else self._record.find(digest)
        return blamed if blamed is not None and blamed.quarantined else None

    def _blame(self, guard: Guard, reason: str, weight: float, apart_s: float) -> None:
        if self._record is None:
            return
        suspect = Suspect(guard.model, guard.version, guard.digest)
        try:
            cause = next(self._causes)
            self._record.add([suspect], cause=cause, reason=reason, weight=weight, apart_s=apart_s)
        except OSError as error:
            _log.warning("blame is not remembered", model=guard.model, reason=str(error))

    def _tell(self, finding: _Finding) -> None:
        # A loop that is closed has nobody left to act.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._found.put_nowait, finding)
