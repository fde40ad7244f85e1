"""The isolation of one process: guards for its threads, which models must not be loaded, and what follows a hang.

Here: what the rest of the runtime sees. Not here: how hangs are found (`watch.py`) and followed up (`finding.py`), how
crashes are found (`marker.py`), how blame is counted (`record.py`).

A hang: the model is taken out at once, so that the gateway sends its calls elsewhere. If the run lets go, the model is
loaded afresh; if not, the replica drains and ends for its supervisor to start it again, since no thread can be killed.
A crash ends the process by itself: the next one on the same folder finds out whose fault it was.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from shared.errors import FailedPrecondition, RestartError, SensoriumError
from shared.inference.isolation.fault import give_signal_stack
from shared.inference.isolation.finding import Finding, Findings
from shared.inference.isolation.guard import Guard, make_unwatched_guard
from shared.inference.isolation.loading import loading_under
from shared.inference.isolation.marker import Marker, collect
from shared.inference.isolation.record import Record, Suspect, locked, record_folder
from shared.inference.isolation.settings import IsolationSettings
from shared.inference.isolation.watch import Watch
from shared.settings import state_dir
from shared.telemetry.logging import get_logger

__all__ = ["Guard", "Isolation"]

_log = get_logger("inference")

# How long after a crash the calls that its process had may come back (seconds): the gateway sends them on at once.
_RECENT_S = 10.0
# How long a process takes at most to be dead once it has written its trace (seconds).
_DYING_S = 0.2


class Models(Protocol):
    """What isolation asks of the repository, on the event loop."""

    def take_out(self, name: str, version: str, reason: str) -> None:
        """Make a version unavailable at once; those who wait for it are told."""

    async def load_model(self, name: str, version: str = "") -> object:
        """Load a version (again)."""


class Isolation:
    """One per process, made in `__main__` on the event loop before any model is loaded, and given to the repository.

    Models are named with or without their service; their digest is what counts.

    Where its folder cannot be written (a read-only file system) it watches for hangs, and remembers nothing.
    """

    def __init__(self, folder: Path | None, service: str, settings: IsolationSettings) -> None:
        """Blame whom the processes before have left in `folder` (`record_folder`), and begin to watch.

        Without a folder nothing is watched, see `off`.
        """
        self._service, self._folder = service, folder
        self._record: Record | None = None
        self._marker: Marker | None = None
        self._watch: Watch | None = None
        self._findings: Findings | None = None
        if folder is None:
            return
        self._loop_thread = threading.get_ident()
        record = Record(folder, blame_s=settings.blame_s)
        try:
            self._marker = self._open(folder, record)
        except OSError as error:
            _log.warning("crashes of models are not remembered", reason=str(error))
        self._record = None if self._marker is None else record
        findings = self._findings = Findings(service, self._record, restart_s=settings.restart_s)
        watch = self._watch = Watch(
            settings,
            on_hang=findings.hang,
            on_return=findings.let_go,
            on_stuck=findings.stuck,
            on_look=lambda: findings.look(watch.list_guards),
        )
        watch.start()

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
        if self._findings is None:
            return None
        return self._findings.find_quarantine(Suspect(self._get_bare(model), version, digest))

    async def check_retried(self, model: str, digest: str) -> None:
        """For a call that another replica had before and did not answer: did that one crash over this model just now?

        The trace of a crash is there before its callers see the connection break. Without this check one call would
        end all replicas, one after another.

        Raises:
            FailedPrecondition: it did.
        """
        if self._record is None:
            return
        reason = await asyncio.to_thread(self._find_suspicion, digest)
        if reason is not None:
            raise FailedPrecondition(
                f"model {self._service}/{self._get_bare(model)} may have crashed over this call: {reason}",
                fix="it is not tried on another replica; leave out what is unusual about its input",
            )

    async def keep(self, models: Models) -> None:
        """Act on what the watch finds, until it is cancelled, which closes it; to be run beside the server.

        Raises:
            RestartError: a run does not return, so that the process has to end, at the latest after `restart_s`.
        """
        if self._findings is None:
            return
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                found = await self._findings.next()
                if found.what == "restart":
                    raise RestartError(found.reason)
                if found.what == "take out":
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
        if self._findings is not None:
            self._findings.close()
        if self._marker is not None:
            self._marker.remove()

    def _get_bare(self, model: str) -> str:
        return model.removeprefix(f"{self._service}/")

    async def _load(self, models: Models, found: Finding) -> None:
        try:
            await models.load_model(found.model, found.version)
        except SensoriumError as error:
            _log.warning(
                "model not loaded again", model=found.model, version=found.version, reason=str(error)
            )

    def _open(self, folder: Path, record: Record) -> Marker:
        with locked(folder):
            self._collect(folder, record)
            marker = Marker(folder)
        marker.watch_faults()
        return marker

    def _collect(self, folder: Path, record: Record, patience_s: float = 0.0) -> None:
        """Blame whom the dead name; the folder is held."""
        for crash in collect(folder, patience_s):
            models = [f"{self._service}/{suspect.model}" for suspect in crash.suspects]
            _log.error(
                "a replica crashed",
                signal=crash.fault.what,
                where=crash.fault.where,
                models=models or "none was running on that thread",
            )
            if crash.suspects:
                record.add_held(crash.suspects, kind="crash", cause=crash.cause, reason=crash.reason)

    def _find_suspicion(self, digest: str) -> str | None:
        folder, record = self._folder, self._record
        if folder is None or record is None:
            return None
        try:
            with locked(folder):
                self._collect(folder, record, _DYING_S)
        except OSError as error:
            _log.warning("crashes of other replicas cannot be read", reason=str(error))
        blamed = record.find(digest)
        if blamed is None:
            return None
        recent = time.time() - _RECENT_S
        return next(
            (blame.reason for blame in blamed.blames if blame.kind == "crash" and blame.at > recent), None
        )
