"""The command line that every training script has; a script adds what is its own with `add_argument`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared.settings import state_dir
from shared.training.precision import PRECISIONS

Number = TypeVar("Number", int, float)

DEVICES = ("auto", "cpu", "cuda")
_LARGEST = 3.4e38  # of fp32
# What may differ between the command that wrote a checkpoint and the one that goes on from it: none of it changes the
# curve. Every other argument, a script's own included, must be the same.
CHANGEABLE = frozenset(
    {
        "data",
        "out",
        "name",
        "keep_held_out",
        "epochs",
        "patience",
        "threads",
        "device",
        "fresh",
        "checkpoint_every",
    }
)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it was written, and every default beside its option."""


def make_parser(
    doc: str | None,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    seed: int = 0,
    patience: int = 0,
    precision: str = "fp32",
) -> argparse.ArgumentParser:
    """Makes the parser that all scripts share; the keywords are this script's defaults.

    doc: the script's `__doc__`, shown by `--help` as it is. The parsed names: data, out, epochs, batch_size,
    learning_rate, weight_decay, seed, threads, device, precision, patience, fresh, limit, checkpoint_every.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=_HelpFormatter, allow_abbrev=False)
    place = parser.add_argument_group("place")
    place.add_argument(
        "--data", type=Path, default=state_dir() / "datasets", metavar="DIR", help="folder of the datasets"
    )
    place.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="folder of checkpoints, curves and results; without it runs/<name of the recipe>",
    )
    place.add_argument(
        "--fresh", action="store_true", help="forget the checkpoint in --out; without it, go on from there"
    )
    place.add_argument(
        "--checkpoint-every",
        type=parse_count,
        default=1,
        metavar="N",
        help="epochs between checkpoints; the last epoch and every new best one are always kept",
    )
    learning = parser.add_argument_group("learning")
    learning.add_argument(
        "--epochs", type=parse_count, default=epochs, metavar="N", help="passes over the data"
    )
    learning.add_argument(
        "--batch-size",
        type=parse_count,
        default=batch_size,
        metavar="N",
        help="items in one step, over all processes together",
    )
    learning.add_argument(
        "--learning-rate", type=parse_positive, default=learning_rate, metavar="X", help="at its highest"
    )
    learning.add_argument(
        "--weight-decay", type=parse_not_negative, default=weight_decay, metavar="X", help="of the optimizer"
    )
    learning.add_argument(
        "--patience",
        type=parse_whole,
        default=patience,
        metavar="N",
        help="epochs without a better one after which training stops; 0 = never",
    )
    learning.add_argument(
        "--seed", type=parse_whole, default=seed, metavar="N", help="of weights, order and augmentation"
    )
    learning.add_argument(
        "--limit",
        type=parse_count,
        default=None,
        metavar="N",
        help="only the first N items of the data, for a quick look",
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", choices=DEVICES, default="auto", help="auto = cuda where there is one")
    machine.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=precision,
        help="bf16, fp16: of matrix products alone; fp64: of everything, to tell rounding from a fault",
    )
    machine.add_argument(
        "--threads",
        type=parse_whole,
        default=0,
        metavar="N",
        help="per process; 0 = OMP_NUM_THREADS, else the cores divided by the processes",
    )
    return parser


def parse_count(text: str) -> int:
    """A whole number of at least 1."""
    return _parse(text, int, lambda value: value >= 1, "a whole number of at least 1")


def parse_whole(text: str) -> int:
    """A whole number of at least 0."""
    return _parse(text, int, lambda value: value >= 0, "a whole number of at least 0")


def parse_positive(text: str) -> float:
    """A number above 0 that fp32 holds."""
    return _parse(text, float, lambda value: 0 < value <= _LARGEST, "a number above 0, at most 3.4e38")


def parse_not_negative(text: str) -> float:
    """A number of at least 0 that fp32 holds."""
    return _parse(text, float, lambda value: 0 <= value <= _LARGEST, "a number of at least 0, at most 3.4e38")


def parse_fraction(text: str) -> float:
    """A number from 0 to 1."""
    return _parse(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _parse(
    text: str, read: Callable[[str], Number], holds: Callable[[Number], bool], expected: str
) -> Number:
    try:
        value = read(text)
        if holds(value):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")


def parse_once(
    parser: argparse.ArgumentParser, seed: int, data: Path, out: Path, *more: str, limit: int | None = None
) -> argparse.Namespace:
    """The arguments of one run of a measurement, as if they had been typed; `more` are a script's own."""
    said = ["--data", str(data), "--out", str(out), "--seed", str(seed), *more]
    return parser.parse_args(said if limit is None else [*said, "--limit", str(limit)])
