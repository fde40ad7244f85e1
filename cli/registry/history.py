"""The record of promotions: one JSON line each in `<state>/registry/<service>/<model>.jsonl`, only ever added to.

A promotion writes a line before its version appears and one when it has: after a crash in between, the next reader of the
record sees from what is on disk how it ended. Not here: what is promoted (`promoting`).
"""

import contextlib
import getpass
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.failure import CommandError
from shared.inference.artifact import ArtifactError, read_artifact

BEGUN, PROMOTED, REFUSED, ABANDONED = "begun", "promoted", "refused", "abandoned"


class History:
    """The record of one model."""

    def __init__(self, state: Path, service: str, name: str) -> None:
        self.path = state / "registry" / service / f"{name}.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """All that was recorded, oldest first. A line that a crash cut off is passed over.

        Raises:
            CommandError: it cannot be read.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CommandError(f"{self.path} cannot be read: {error.strerror}") from error
        records = []
        for line in lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
        return records

    def add(self, event: str, said: Mapping[str, Any]) -> None:
        """Add one record, in one write, on the disk when this returns.

        Raises:
            CommandError: it cannot be written.
        """
        record = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "who": _who(),
            "event": event,
            **said,
        }
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(descriptor).st_size
                if size and os.pread(descriptor, 1, size - 1) != b"\n":
                    line = b"\n" + line  # what a crash cut off stays a line of its own
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CommandError(f"{self.path} cannot be written: {error.strerror}") from error

    def settle(self, folder: Path) -> None:
        """Record how promotions ended that a crash cut off, under their lock; `folder` holds the model's versions."""
        open_ones: dict[str, dict[str, Any]] = {}
        for record in self.read():
            key = str(record.get("id"))
            if record.get("event") == BEGUN:
                open_ones[key] = record
            else:
                open_ones.pop(key, None)
        for record in open_ones.values():
            try:
                there = read_artifact(folder / str(record.get("version"))).digest
            except ArtifactError:
                there = ""
            said = {key: value for key, value in record.items() if key not in ("at", "who", "event")}
            ended = PROMOTED if there and there == record.get("digest") else ABANDONED
            self.add(ended, {**said, "note": "recorded after the promotion was cut off"})


def _who() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = str(os.getuid())  # no name for this number here, as in a container
    return f"{name}@{socket.gethostname()}"
