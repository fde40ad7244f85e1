"""Where the gateway's files lie, and the lock that keeps a second one out of the same folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gateway.envoy.bootstrap import Places
from shared.errors import StartupError
from shared.rpc.settings import MAX_UNIX_PATH_BYTES


@dataclass(frozen=True)
class Run:
    """Files of one gateway, all below `folder`, but for sockets whose path would be too long there."""

    folder: Path

    @property
    def places(self) -> Places:
        """What Envoy is told of them."""
        sockets = _short(self.folder)
        return Places(
            folder=self.folder / "config",
            descriptors=self.folder / "descriptors.binpb",
            control=sockets / "control.sock",
            metrics=sockets / "metrics.sock",
            admin=sockets / "admin.sock",
        )

    @property
    def bootstrap(self) -> Path:
        """Envoy's configuration."""
        return self.folder / "bootstrap.json"

    @property
    def log(self) -> Path:
        """Envoy's own log, warnings and worse."""
        return self.folder / "envoy.log"

    @property
    def record(self) -> Path:
        """What the next control plane needs to know of a running Envoy."""
        return self.folder / "envoy.json"

    @property
    def address(self) -> Path:
        """The public address, while calls are taken."""
        return self.folder / "address"

    def create(self) -> IO[str]:
        """Makes the folders and takes the lock, which lasts as long as the file returned. Raises StartupError."""
        places = self.places
        try:
            for folder in (self.folder, places.folder, places.control.parent):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o700)
            lock = (self.folder / "lock").open("a+")
        except OSError as error:
            raise StartupError(
                f"{self.folder}: cannot be used: {error.strerror}; choose another state folder"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise StartupError(
                f"{self.folder}: another gateway (pid {owner}) runs in this state folder; stop it, "
                "or choose another with SENSORIUM_STATE_DIR"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock


def _short(folder: Path) -> Path:
    """`folder`, or one in the temporary folder that stands for it where a socket's path would be too long."""
    if len(os.fsencode(folder / "control.sock")) <= MAX_UNIX_PATH_BYTES:
        return folder
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sensorium-{os.getuid()}-{digest}"
