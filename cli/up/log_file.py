"""A child's log: it writes there itself, so that its last words survive its supervisor. Bounded by cutting it."""

import json
import os
import shutil
from pathlib import Path

# One file of this size and one before it are kept for each process.
MAX_BYTES = 8 * 2**20
# As much of the end as can matter for one line of explanation.
_TAIL_BYTES = 16 * 2**10


class LogFile:
    """`<state>/log/<name>.log`, and `<name>.log.1`, what it was before it grew too large."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._start = 0

    def open(self) -> int:
        """A descriptor to append to, for a process that begins now; `last_words` looks from here on."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._start = os.fstat(descriptor).st_size
        return descriptor

    def rotate(self) -> None:
        """Moves the content aside if it is too much. What is written during the copy may be lost."""
        try:
            if self.path.stat().st_size <= self._max_bytes:
                return
            shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
            # Its writer appends, so that it goes on at the new end.
            os.truncate(self.path, 0)
            self._start = 0
        except FileNotFoundError:
            return

    def last_words(self) -> str:
        """Why the process ended, as far as its log says: what follows `cannot start: ` or `restarting: `, else its
        last line.
        """
        try:
            with self.path.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(self._start, size - _TAIL_BYTES))
                text = stream.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for at, line in enumerate(lines):
            if line.startswith("cannot start: "):
                # Several bad settings are several lines.
                return "; ".join([line.removeprefix("cannot start: "), *lines[at + 1 :]])
        return _plain(lines[-1]).removeprefix("restarting: ") if lines else ""


def _plain(line: str) -> str:
    """The words of a JSON log line; any other line as it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    return str(event.get("error") or event.get("event") or line) if isinstance(event, dict) else line
