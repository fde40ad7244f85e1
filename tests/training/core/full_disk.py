"""Trains onto a small disk that is full from the third epoch on, makes room, and trains on.

    python -m tests.training.core.full_disk DISK CURVES [arguments of train_digits …]

CURVES: the file that the curves are copied to before the disk is gone.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from shared.training.errors import CheckpointError
from tests.training.core import train_digits


def fill(disk: Path) -> None:
    """Leaves half of a checkpoint's room."""
    with (disk / "filler").open("wb", buffering=0) as file:
        file.truncate(0)
        free = shutil.disk_usage(disk).free
        file.write(bytes(free - 28_672))


def main(disk: Path, curves: Path, arguments: argparse.Namespace) -> int:
    arguments.out = disk / "out"
    left = [2]

    def ending() -> None:
        left[0] -= 1
        if left[0] < 0:
            fill(disk)

    try:
        train_digits.main(arguments, ending)
    except CheckpointError as error:
        print(error)
    else:
        return 1
    (disk / "filler").unlink()
    train_digits.main(arguments)
    shutil.copy(arguments.out / "curves.csv", curves)
    return 0


if __name__ == "__main__":
    parsed = train_digits.get_args_parser().parse_args(sys.argv[3:])
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), parsed))
