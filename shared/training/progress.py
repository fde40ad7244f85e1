"""What a person sees of a training: lines that stay, and on a terminal a bar that moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


class Lines:
    """Plain lines in every case; a bar only where somebody watches, and nothing at all from processes but the first."""

    def __init__(self, *, silent: bool = False, file: TextIO | None = None) -> None:
        """file: where lines go, standard output by default."""
        self._silent = silent
        self._console = Console(file=file, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Prints one line, above the bar where there is one."""
        if self._silent:
            return
        if self._console.is_terminal:
            # Markup would eat brackets.
            self._console.print(text, markup=False)
        else:
            # In one write: a console that Ctrl-C interrupts says its line again with the next one.
            self._console.file.write(text + "\n")
            self._console.file.flush()

    def track(self, items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
        """Yields the items, moving a bar on a terminal; total: how many there are, where they cannot tell."""
        if self._silent or not self._console.is_terminal:
            yield from items
            return
        if total is None and isinstance(items, Sized):
            total = len(items)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield from bar.track(items, total=total, description=label)
