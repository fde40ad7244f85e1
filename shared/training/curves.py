"""The curves of a training: one row an epoch, in memory and as `curves.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.files import write_atomically

FILE = "curves.csv"
# Columns that tell of the machine, not of the training: they differ from run to run.
OF_THE_MACHINE = frozenset({"duration_s"})

Row = Mapping[str, float]


def write_curves(path: Path, rows: Sequence[Row]) -> None:
    """Writes all rows anew, whole or not at all; columns in the order in which they first appear.

    Raises:
        OSError: the file cannot be written; the one of before is still there.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    # repr: all digits, so that two curves can be compared exactly.
    writer.writerows({name: repr(value) for name, value in row.items()} for row in rows)
    write_atomically(path, text.getvalue())


def read_curves(path: Path) -> list[dict[str, float]]:
    """The rows of a `curves.csv`; a value that an epoch lacks is left out."""
    with path.open(newline="") as file:
        return [
            {name: int(value) if name == "epoch" else float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def compare_curves(one: Sequence[Row], other: Sequence[Row]) -> float:
    """The greatest absolute difference between two curves' values, leaving out what tells of the machine.

    Raises:
        ValueError: they have other epochs or other columns.
    """
    if len(one) != len(other):
        raise ValueError(f"expected as many epochs, got {len(one)} and {len(other)}")
    greatest = 0.0
    for left, right in zip(one, other, strict=True):
        if left.keys() != right.keys():
            raise ValueError(f"expected the same columns, got {sorted(left)} and {sorted(right)}")
        greatest = max(greatest, *(abs(left[name] - right[name]) for name in left.keys() - OF_THE_MACHINE))
    return greatest
