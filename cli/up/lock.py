"""One mesh from a state folder at a time: the lock that it holds, and who holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.failure import CommandError


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the state folder for this mesh; CommandError if another one does."""
    folder = state / "run"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(_get_path(state), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip()
            raise CommandError(
                f"another mesh (pid {owner}) runs from {state}; stop it, or choose another folder with --state-dir"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def find_owner(state: Path) -> int | None:
    """The process whose mesh runs from a state folder, None if there is none."""
    try:
        descriptor = os.open(_get_path(state), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two who ask do not take each other for the mesh.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(descriptor, 32).decode().strip() or 0)
    finally:
        os.close(descriptor)
    return None


def _get_path(state: Path) -> Path:
    return state / "run" / "up.lock"
