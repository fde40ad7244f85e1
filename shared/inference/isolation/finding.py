"""What the watch finds, and what follows from it: blame in the record, and a word to the event loop.

Here: the watch's side, on its thread. Not here: when a run hangs (`watch.py`), what the event loop does about it
(`isolation.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.errors import RESTART_CODE
from shared.inference.isolation.guard import Guard
from shared.inference.isolation.record import Blamed, Record, Suspect, describe_quarantine
from shared.telemetry.logging import get_logger

__all__ = ["Finding", "Findings"]

_log = get_logger("inference")

# What a hang that let go counts: four of them make a quarantine. One call that the gateway tries on every replica must
# not be four, so that they count once in this time (seconds).
_LET_GO, _LET_GO_APART_S = 0.5, 60.0
# How long a healthy event loop takes at most to answer (seconds).
_LOOP_S = 2.0
# How often the record is looked at for who is quarantined or released (seconds).
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the event loop must act on: take a version out, load it again, or let the process end."""

    what: Literal["take out", "load", "restart"]
    model: str
    version: str
    reason: str = ""


class Findings:
    """Made on the event loop, which takes findings out of it; the watch puts them in."""

    def __init__(self, service: str, record: Record | None, *, restart_s: float) -> None:
        """Without a record nothing is remembered. `restart_s` is how long the process lives after a run is stuck."""
        self._service = service
        self._record = record
        self._restart_s = restart_s
        self._causes = (f"{os.getpid()}-{os.urandom(4).hex()}-{number}" for number in itertools.count())
        self._last_resort: threading.Timer | None = None
        # Those who were refused, by digest: they are looked after for a release.
        self._refused: dict[str, Suspect] = {}
        self._looked_s = time.monotonic()
        self._loop = asyncio.get_running_loop()
        # One entry for each hang, so that it needs no bound.
        self._found: asyncio.Queue[Finding] = asyncio.Queue()

    async def next(self) -> Finding:
        """Wait for the next finding; on the event loop."""
        return await self._found.get()

    def find_quarantine(self, suspect: Suspect) -> str | None:
        """Why an artifact must not be loaded, in words for its user; None if it may be. From any thread."""
        blamed = self._find_blamed(suspect.digest)
        if blamed is None:
            return None
        self._refused[suspect.digest] = suspect
        return describe_quarantine(self._service, blamed)

    def close(self) -> None:
        """The process goes on."""
        if self._last_resort is not None:
            self._last_resort.cancel()

    # On the watch's thread.

    def hang(self, guard: Guard, limit_s: float) -> None:
        """A run took longer than `limit_s` and was asked to end."""
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
        self._tell(Finding("take out", guard.model, guard.version, reason))

    def let_go(self, guard: Guard) -> None:
        """A run that was asked to end has returned."""
        _log.warning("hanging run returned", model=guard.model, version=guard.version, graph=guard.graph)
        # Loading that was slow could not be asked to stop: what it says now is taken as it is.
        if guard.loads or guard.hasty:
            return
        self._blame(guard, "a run of it hung and had to be stopped", _LET_GO, _LET_GO_APART_S)
        self._tell(Finding("load", guard.model, guard.version))

    def stuck(self, guard: Guard) -> None:
        """A run that was asked to end does not return."""
        what = "loading it" if guard.loads else "a run of it"
        self._blame(guard, f"{what} hung and did not stop", 1.0, 0.0)
        reason = f"{self._service}/{guard.model}: {what} hangs and does not stop"
        _log.error("replica restarts itself", reason=reason)
        self._tell(Finding("restart", guard.model, guard.version, reason))
        self._check_loop(reason)
        # The drain may itself be stuck.
        if self._last_resort is None:
            self._last_resort = threading.Timer(self._restart_s, os._exit, (RESTART_CODE,))
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

    def look(self, list_guards: Callable[[], list[Guard]]) -> None:
        """Nothing else happened: see who is quarantined or released by now. `list_guards` are of all who serve here."""
        now_s = time.monotonic()
        if self._record is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        for digest, suspect in list(self._refused.items()):
            if self._find_blamed(digest) is None:
                del self._refused[digest]
                _log.info("model is no longer quarantined", model=suspect.model, version=suspect.version)
                self._tell(Finding("load", suspect.model, suspect.version))
        # What serves here may have been found guilty elsewhere.
        for guard in list_guards():
            suspect = Suspect(guard.model, guard.version, guard.digest)
            if guard.digest not in self._refused and (reason := self.find_quarantine(suspect)):
                _log.error("model is quarantined", model=guard.model, version=guard.version, reason=reason)
                self._tell(Finding("take out", guard.model, guard.version, reason))

    def _find_blamed(self, digest: str) -> Blamed | None:
        blamed = None if self._record is None else self._record.find(digest)
        return blamed if blamed is not None and blamed.quarantined else None

    def _blame(self, guard: Guard, reason: str, weight: float, apart_s: float) -> None:
        if self._record is None:
            return
        suspect = Suspect(guard.model, guard.version, guard.digest)
        try:
            cause = next(self._causes)
            self._record.add(
                [suspect], kind="hang", cause=cause, reason=reason, weight=weight, apart_s=apart_s
            )
        except OSError as error:
            _log.warning("blame is not remembered", model=guard.model, reason=str(error))

    def _tell(self, finding: Finding) -> None:
        # A loop that is closed has nobody left to act.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._found.put_nowait, finding)
