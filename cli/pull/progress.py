"""What a pull tells while it runs: `Progress` is all that the fetcher knows of the screen."""

from contextlib import AbstractContextManager
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from cli.output import show_work


class Progress(Protocol):
    """Told of each step; totals are bytes, `None` while unknown."""

    def begin(self, label: str) -> None:
        """A download begins."""

    def advance(self, done: int, total: int | None) -> None:
        """So much of the current download is there."""

    def end(self) -> None:
        """The current download is over, well or not."""

    def note(self, line: str) -> None:
        """Something worth a line of its own."""


class Silence:
    """Tells nothing: for callers that are no user."""

    def begin(self, label: str) -> None:
        """See Progress."""

    def advance(self, done: int, total: int | None) -> None:
        """See Progress."""

    def end(self) -> None:
        """See Progress."""

    def note(self, line: str) -> None:
        """See Progress."""


class Lines:
    """A line per step, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def begin(self, label: str) -> None:
        """See Progress."""
        self.note(f"fetching {label}")

    def advance(self, done: int, total: int | None) -> None:
        """See Progress."""

    def end(self) -> None:
        """See Progress."""

    def note(self, line: str) -> None:
        """See Progress."""
        print(line, file=self._stream, flush=True)


class Bars:
    """One bar for the download that runs, on a terminal. Use as a context, so that the cursor comes back."""

    def __init__(self, console: Console) -> None:
        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "Bars":
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def begin(self, label: str) -> None:
        """See Progress."""
        self._task = self._rich.add_task(label, total=None)

    def advance(self, done: int, total: int | None) -> None:
        """See Progress."""
        if self._task is not None:
            self._rich.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """See Progress."""
        if self._task is not None:
            self._rich.remove_task(self._task)
            self._task = None

    def note(self, line: str) -> None:
        """See Progress."""
        self._rich.console.print(line, markup=False, highlight=False)


def show_progress() -> AbstractContextManager[Progress]:
    """Bars on a terminal, lines elsewhere."""
    return show_work(Lines, Bars)
