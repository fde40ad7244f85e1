"""Memory of other processes, as the system counts it (Linux)."""

from __future__ import annotations

import re
from pathlib import Path


def read_resident_bytes(pid: int) -> int:
    """Resident memory now."""
    return _read(pid, "VmRSS")


def read_peak_bytes(pid: int) -> int:
    """The most that was resident since the process began, or since `reset_peak`."""
    return _read(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Begins the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _read(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, f"/proc/{pid}/status has no {name}"
    return int(found[1]) * 1024
