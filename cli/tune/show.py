"""What tuning tells: a bar while it measures, a table of what came out.

Not here: the drawing (`plot.py`).
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.output import print_table
from shared.inference.tuning.values import Candidate, Figures, Tuned, TunedValues

_BAR = 20


class Steps:
    """A bar over the measurements on a terminal, a line for each elsewhere. A context, so that the cursor comes back."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("loading", total=None)

    def __enter__(self) -> Steps:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def plan(self, steps: int) -> None:
        """See Watcher."""
        if self._bar is not None:
            self._bar.update(self._task, total=steps)

    def advance(self, values: TunedValues, figures: Figures) -> None:
        """See Watcher."""
        line = f"{describe(values)}: {figures.items_per_s:.1f}/s, p95 {figures.latency_s * 1e3:.1f} ms"
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=line)
        else:
            print(line, file=self._console.file, flush=True)


def describe(values: TunedValues) -> str:
    """`batch 8, 2 threads, 1 instance`."""
    threads, instances = values.intra_op_threads, values.instances
    return (
        f"batch {values.max_batch_size}, {threads} thread{'s' * (threads > 1)}, "
        f"{instances} instance{'s' * (instances > 1)}"
    )


def print_tuned(tuned: Tuned) -> None:
    """The table of all that was measured; the best is marked."""
    most = max(each.figures.items_per_s for each in tuned.candidates)
    columns = ["THREADS", "INSTANCES", "BATCH", "ITEMS/S", "P95", "ALONE", "CPU/ITEM", "ROWS", ""]
    print_table(
        columns,
        [
            (
                str(each.values.intra_op_threads),
                str(each.values.instances),
                str(each.values.max_batch_size),
                f"{each.figures.items_per_s:.1f}",
                _milliseconds(each.figures.latency_s),
                _milliseconds(each.figures.alone_s),
                _milliseconds(each.figures.cpu_s_per_item),
                f"{each.figures.rows:.1f}",
                _bar(each, most) + _remark(each, tuned),
            )
            for each in tuned.candidates
        ],
        right=columns[:-1],
    )


def _bar(candidate: Candidate, most: float) -> str:
    return "█" * max(1, round(_BAR * candidate.figures.items_per_s / most))


def _remark(candidate: Candidate, tuned: Tuned) -> str:
    if candidate.values == tuned.best.values:
        return " best"
    return " over the target" if candidate.figures.latency_s > tuned.latency_target_s else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
