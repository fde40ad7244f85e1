"""What promoting and comparing show while they run: a bar on a terminal, lines elsewhere."""

import threading
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Watcher:
    """Told of each step; this one tells nobody."""

    def note(self, line: str) -> None:
        """A step begins."""

    def begin(self, label: str, items: int) -> None:
        """So many items are asked about."""

    def advance(self, items: int) -> None:
        """So many more were answered."""

    def end(self) -> None:
        """They are, or it failed."""


class Lines(Watcher):
    """A line per step, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def note(self, line: str) -> None:
        """See Watcher."""
        print(line, file=self._stream, flush=True)

    def begin(self, label: str, items: int) -> None:
        """See Watcher."""
        self.note(f"{label} about {items} items")


class Bar(Watcher):
    """One bar for the version that is asked, on a terminal. Use as a context, so that the cursor comes back."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._rich = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        # Answers come on several threads.
        self._lock = threading.Lock()

    def __enter__(self) -> "Bar":
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def note(self, line: str) -> None:
        """See Watcher."""
        self._rich.console.print(line, markup=False, highlight=False)

    def begin(self, label: str, items: int) -> None:
        """See Watcher."""
        self._task = self._rich.add_task(label, total=items)

    def advance(self, items: int) -> None:
        """See Watcher."""
        with self._lock:
            if self._task is not None:
                self._rich.advance(self._task, items)

    def end(self) -> None:
        """See Watcher."""
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._task = None
