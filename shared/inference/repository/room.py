"""Whether there is memory to load a model: what is left of the machine's and of the control group's.

Not here: giving memory back (`retirement.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

from shared.inference.artifact import Artifact

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
# Loading reads a graph's file and lays its weights out a second time; of the models here it took 2 to 7 times their files.
_TIMES_FILE = 2


class RoomError(Exception):
    """There is too little memory to load a model; the text says how much is needed and left."""


def check_room(artifact: Artifact, left: int | None) -> None:
    """Refuse a model that would surely not fit into `left` bytes (None: unknown, nothing is refused).

    Raises:
        RoomError: the graphs alone need more.
    """
    sizes = artifact.manifest.files
    needed = _TIMES_FILE * sum(sizes[graph.file].bytes for graph in artifact.graphs.values())
    if left is not None and needed > left:
        raise RoomError(
            f"needs at least {needed / 1e6:.0f} MB of memory, {left / 1e6:.0f} MB are left; "
            "unload another model or give the replica more"
        )


def measure_room(meminfo: Path = _MEMINFO, group: Path = _GROUP) -> int | None:
    """Bytes that may still be taken: the least of what the machine and the control group (v2) have; None if neither says."""
    left = [room for room in (_read_machine(meminfo), _read_group(group)) if room is not None]
    return min(left, default=None)


def _read_machine(meminfo: Path) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text("ascii"), re.MULTILINE)
    except OSError:
        return None  # not Linux
    return None if found is None else int(found[1]) * 1024


def _read_group(group: Path) -> int | None:
    try:
        limit = (group / "memory.max").read_text("ascii").strip()
        if limit == "max":
            return None
        used = int((group / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        # Files that were read count as used, and go when somebody needs their room.
        return max(0, int(limit) - used + int(stat["inactive_file"]) + int(stat["active_file"]))
    except (OSError, ValueError, KeyError):
        return None
