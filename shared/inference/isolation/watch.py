"""The hang watch: one thread that looks at what runs, asks what runs too long to stop, and says what does not.

Here: when a run counts as hanging, as letting go, as stuck. Not here: what becomes of the model and of the replica
(`isolation.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.inference.isolation.guard import Guard, Run
from shared.inference.isolation.settings import IsolationSettings

# A run of a size that was learned may take this many times as long: a machine with other work, a page that was swapped out.
_TIMES_EXPECTED = 10.0
# How often it looks (seconds): so often that a timeout is at most a twentieth late, within these bounds.
_LATE, _FASTEST_S, _SLOWEST_S = 0.05, 0.01, 0.25
# How long a run on the event loop may take (seconds): those that are made there take less than a millisecond.
_HASTY_S = 0.25


@dataclass(slots=True)
class _Seen:
    """A run that was going on when it was looked for. Times are the watch's own."""

    run: Run
    since_s: float
    asked_s: float | None = None
    stuck: bool = False


class Watch:
    """Looks at guards until it is closed. All callbacks come on its thread, which they may block for a while.

    Time is counted in its own looks: a process that was stopped, or a machine that slept, has not hung.
    """

    def __init__(
        self,
        settings: IsolationSettings,
        *,
        on_hang: Callable[[Guard, float], None],
        on_return: Callable[[Guard], None],
        on_stuck: Callable[[Guard], None],
        on_look: Callable[[], None],
    ) -> None:
        """`on_hang` is told the limit in seconds that a run has passed; then `on_return` or `on_stuck` follows.

        `on_look` is called after every look.
        """
        self._settings = settings
        self._on_hang, self._on_return, self._on_stuck, self._on_look = on_hang, on_return, on_stuck, on_look
        shortest_s = min(settings.run_timeout_s, settings.grace_s, settings.load_timeout_s)
        self._every_s = min(max(shortest_s * _LATE, _FASTEST_S), _SLOWEST_S)
        # Written by any thread; a dictionary, because its copy is one step.
        self._guards: dict[Guard, None] = {}
        self._seen: dict[Guard, _Seen] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="isolation", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def add(self, guard: Guard) -> None:
        """Look at this one too."""
        self._guards[guard] = None

    def remove(self, guard: Guard) -> None:
        """Forget one."""
        self._guards.pop(guard, None)

    def list_guards(self) -> list[Guard]:
        """All that are looked at."""
        return list(self._guards.copy())

    def _work(self) -> None:
        now_s, looked_s = 0.0, time.monotonic()
        while not self._closed.wait(self._every_s):
            ended_s = time.monotonic()
            # What lies between two looks counts as two looks at most.
            now_s += min(ended_s - looked_s, 2 * self._every_s)
            looked_s = ended_s
            self._look(now_s)
            self._on_look()

    def _look(self, now_s: float) -> None:
        guards = self._guards.copy()
        for guard in [*guards, *(guard for guard in self._seen if guard not in guards)]:
            run, seen = guard.run, self._seen.get(guard)
            if seen is not None and seen.run is not run:
                del self._seen[guard]
                if seen.asked_s is not None:
                    self._on_return(guard)
                seen = None
            if run is None:
                continue
            if seen is None:
                self._seen[guard] = _Seen(run, now_s)
            else:
                self._judge(guard, seen, now_s)

    def _judge(self, guard: Guard, seen: _Seen, now_s: float) -> None:
        options, expected_s = seen.run
        if seen.asked_s is None:
            if options is None:
                limit_s = self._settings.load_timeout_s
            else:
                longest_s = _HASTY_S if guard.hasty else self._settings.run_timeout_s
                limit_s = max(longest_s, _TIMES_EXPECTED * expected_s)
            if now_s - seen.since_s >= limit_s:
                seen.asked_s = now_s
                if options is not None:
                    options.terminate = True
                self._on_hang(guard, limit_s)
        elif not seen.stuck and now_s - seen.asked_s >= self._settings.grace_s:
            seen.stuck = True
            self._on_stuck(guard)
