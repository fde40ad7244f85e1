"""What commands print: answers on stdout, everything else on stderr; colours only on a terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO, TypeVar

from rich.console import Console
from rich.table import Table

Shown = TypeVar("Shown")


def stdout() -> Console:
    """The console for answers; plain text when piped, and never cut to a width there."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def stderr() -> Console:
    """The console for progress and remarks."""
    return Console(stderr=True, highlight=False)


@contextmanager
def show_work(
    lines: Callable[[IO[str]], Shown], bars: Callable[[Console], AbstractContextManager[Shown]]
) -> Iterator[Shown]:
    """What tells of long work on stderr: `bars` on a terminal, `lines` elsewhere."""
    console = stderr()
    if not console.is_terminal:
        yield lines(console.file)
        return
    with bars(console) as shown:
        yield shown


def print_json(value: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, floats as short as their float32 origin allows."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text, flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table without a frame; on a pipe its cells are not folded."""
    console = stdout()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    width = 0
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
        width = max(width, sum(len(cell) + 2 for cell in row))
    if not console.is_terminal:
        # Piped: as wide as it needs to be, so that no cell is folded.
        console.width = max(width, sum(len(column) + 2 for column in columns), 80) + 200
    console.print(table)


def warn(line: str) -> None:
    """One remark on stderr."""
    print(f"sensorium: {line}", file=sys.stderr, flush=True)


def megabytes(size: int) -> str:
    """`12.3 MB`."""
    return f"{size / 1e6:.1f} MB"


def _plain(cell: str) -> str:
    # Square brackets in names and errors are text, not markup.
    return cell.replace("[", r"\[")
