"""The marker: which model each thread of a process was running, readable after the process has died.

Here: one file for each process, mapped into its memory, with a slot for each thread that runs models; beside it the file for
the trace of a crash (`fault.py`). A marker that nobody holds locked belongs to a process that died: `collect` reads and
removes it. A process that ends by itself removes its own. No names of replicas are needed: whoever starts next on this
folder finds what the others left.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.inference.isolation.fault import Fault, parse_fault, write_faults
from shared.inference.isolation.record import Suspect

_MARKER, _TRACE = ".marker", ".trace"
# A slot: running (1 byte), taken (1), 6 unused, the thread's identity (8), then digest, model, version and graph.
_SLOT_BYTES = 1024
_SLOTS = 1024
_HEAD = struct.Struct("=BBxxxxxxQ")
_THREAD = struct.Struct("=Q")
_THREAD_AT = 8
# As much of a trace as is read: the guilty thread comes first.
_TRACE_BYTES = 64 * 2**10
# How often a process that is about to be dead is looked at (seconds).
_DYING_S = 0.005


@dataclass(frozen=True, slots=True)
class Crash:
    """A native crash of an earlier process. suspects: the models that may have caused it, each once."""

    cause: str  # identity of the process
    fault: Fault
    suspects: tuple[Suspect, ...]
    graphs: tuple[str, ...]  # the suspects' graphs, "" where they were being loaded

    @property
    def reason(self) -> str:
        """What happened, as the end of a sentence."""
        while_what = " or ".join(graph or "being loaded" for graph in dict.fromkeys(self.graphs))
        sure = "it crashed its replica" if len(self.suspects) == 1 else "its replica crashed"
        return f"{sure} ({self.fault.what.lower()}, {while_what})"


class Marker:
    """This process's marker. Slots are taken and freed from any thread, flags are written by their own."""

    def __init__(self, folder: Path) -> None:
        """Make the file; the folder has to be held (`locked`), or it would be taken for a dead process's.

        Raises:
            OSError: it cannot be made.
        """
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_MARKER}"
        # Open for as long as the process lives: the kernel lets go of the lock when it dies, however it dies.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(self._descriptor, _SLOTS * _SLOT_BYTES)
        self._map = mmap.mmap(self._descriptor, _SLOTS * _SLOT_BYTES)
        self._trace = self._path.with_suffix(_TRACE).open("wb", buffering=0)
        self._lock = threading.Lock()
        self._free = list(range(_SLOTS))[::-1]

    @property
    def flags(self) -> mmap.mmap:
        """What guards write to."""
        return self._map

    def watch_faults(self) -> None:
        """From now on a crash of this process leaves its trace beside the marker."""
        write_faults(self._trace)

    def take(self, suspect: Suspect, graph: str) -> int | None:
        """Take a slot; the place of its flag, None if there is none left."""
        names = "\0".join((suspect.digest, suspect.model, suspect.version, graph)).encode()
        with self._lock:
            if not self._free:
                return None
            at = self._free.pop() * _SLOT_BYTES
        room = _SLOT_BYTES - _HEAD.size
        self._map[at + _HEAD.size : at + _SLOT_BYTES] = names[:room].ljust(room, b"\0")
        self._map[at : at + _HEAD.size] = _HEAD.pack(0, 1, 0)
        return at

    def name_thread(self, at: int, thread: int) -> None:
        """Say which thread a slot is for."""
        self._map[at + _THREAD_AT : at + _THREAD_AT + _THREAD.size] = _THREAD.pack(thread)

    def free(self, at: int) -> None:
        """Give a slot back."""
        self._map[at : at + _HEAD.size] = _HEAD.pack(0, 0, 0)
        with self._lock:
            self._free.append(at // _SLOT_BYTES)

    def remove(self) -> None:
        """Take the files away: this process ends by itself. Guards may go on."""
        self._path.unlink(missing_ok=True)
        # What a crash on the way out would leave has no marker, and blames nobody.
        self._path.with_suffix(_TRACE).unlink(missing_ok=True)


def collect(folder: Path, patience_s: float = 0.0) -> Iterator[Crash]:
    """The crashes of processes that died, whose markers are removed one by one as the caller goes on.

    The folder has to be held (`locked`). A process that was killed is no crash: its marker is only removed. One that
    has left a trace and is not quite dead yet is waited for up to `patience_s`.

    Raises:
        OSError: the folder cannot be read or written.
    """
    for path in sorted(folder.glob(f"*{_MARKER}")):
        try:
            stream = path.open("r+b")
        except FileNotFoundError:
            continue  # its process has just ended by itself
        with stream:
            if not _lock(stream, path, patience_s):
                continue  # its process lives
            if (crash := _read(path)) is not None:
                yield crash
            path.with_suffix(_TRACE).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _lock(stream: BinaryIO, path: Path, patience_s: float) -> bool:
    ends_s = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_s or not _has_trace(path):
                return False
            time.sleep(_DYING_S)
        else:
            return True


def _has_trace(path: Path) -> bool:
    try:
        return path.with_suffix(_TRACE).stat().st_size > 0
    except FileNotFoundError:
        return False


def find_crash(folder: Path, pid: int) -> Crash | None:
    """The crash of a process that has ended, as long as no other has collected it; None if it was none.

    Raises:
        OSError: the folder cannot be read.
    """
    return next((crash for path in folder.glob(f"{pid}-*{_MARKER}") if (crash := _read(path))), None)


def _read(path: Path) -> Crash | None:
    try:
        with path.with_suffix(_TRACE).open("rb") as trace:
            fault = parse_fault(trace.read(_TRACE_BYTES))
        return None if fault is None else _judge(path.stem, fault, path.read_bytes())
    except FileNotFoundError:
        return None


def _judge(cause: str, fault: Fault, content: bytes) -> Crash:
    """Whose fault it was: the guilty thread's model, or any that ran where it was a thread of ONNX Runtime's.

    A guilty thread that ran no model (one that decodes an image) leaves no suspect.
    """
    running: list[tuple[int, Suspect, str]] = []
    for at in range(0, len(content) - _SLOT_BYTES + 1, _SLOT_BYTES):
        flag, taken, thread = _HEAD.unpack_from(content, at)
        if flag and taken:
            names = (
                content[at + _HEAD.size : at + _SLOT_BYTES].rstrip(b"\0").decode(errors="replace").split("\0")
            )
            digest, model, version, graph = (*names, "", "", "", "")[:4]
            running.append((thread, Suspect(model, version, digest), graph))
    guilty = [entry for entry in running if fault.thread in (None, entry[0])]
    # Several threads may have been running one model.
    suspects = {suspect.digest: suspect for _, suspect, _ in guilty}
    return Crash(cause, fault, tuple(suspects.values()), tuple(graph for _, _, graph in guilty))
