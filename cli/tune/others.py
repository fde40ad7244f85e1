"""How much of the machine other processes take while something is measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Of /proc/stat's first line: what is not idle and not waiting for a disk.
_IDLE_FIELDS = (3, 4)
_TICKS_S = 1.0 / os.sysconf("SC_CLK_TCK")


class Others:
    """CPU time of all other processes from its making on; knows nothing where there is no /proc."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._begun = self._read(), time.process_time(), time.perf_counter()

    def count_cores(self) -> float:
        """Cores that others have kept busy, on average; 0 where it is not known."""
        busy_s, own_s, at_s = self._begun
        now_s = self._read()
        if busy_s is None or now_s is None:
            return 0.0
        taken_s = now_s - busy_s - (time.process_time() - own_s)
        return max(taken_s, 0.0) / max(time.perf_counter() - at_s, 1e-9)

    def _read(self) -> float | None:
        """CPU seconds of all processes since the machine started."""
        try:
            fields = [
                int(field) for field in self._stat.read_text(encoding="ascii").split("\n")[0].split()[1:]
            ]
        except (OSError, ValueError):
            return None
        # Guests' time, the last two fields, is counted in the first two already.
        return sum(ticks for index, ticks in enumerate(fields[:8]) if index not in _IDLE_FIELDS) * _TICKS_S
