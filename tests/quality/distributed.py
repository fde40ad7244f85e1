"""Two processes give one process's loss curve, for every model that ships.

Where they do not in fp32, two more rows tell rounding from a fault: the same in fp64, which two processes that take other
steps cannot pass, and one process of two threads against one of one thread, which differ in the order of their sums alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from shared.training.curves import FILE, OF_THE_MACHINE, read_curves
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact
from tests.quality.shipped import Shipped, list_shipped, run_command

_MOST = 1e-3
# The short form of each recipe: the curve is compared, not the model.
_SHORT = ["--limit", "2000", "--epochs", "2", "--device", "cpu"]
_DOUBLE = ["--precision", "fp64"]


class _Way(NamedTuple):
    """How a training is run."""

    processes: int = 1
    threads: int = 1  # of each process
    options: Sequence[str] = ()

    def __str__(self) -> str:
        return " ".join([f"{self.processes}x{self.threads}", *self.options])


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model: the largest difference of a loss over the epochs."""
    for shipped in list_shipped(place):
        fp32 = _measure(shipped, place, "loss", _Way(), _Way(processes=2), at_most=_MOST)
        yield fp32
        if fp32.holds is not True:
            doubles = (_Way(options=_DOUBLE), _Way(processes=2, options=_DOUBLE))
            yield _measure(shipped, place, "loss fp64", *doubles, at_most=_MOST)
            yield _measure(shipped, place, "loss two threads", _Way(), _Way(threads=2), at_most=None)


def _measure(
    shipped: Shipped, place: Place, what: str, one: _Way, other: _Way, *, at_most: float | None
) -> Row:
    key = what.replace("loss", shipped.key).replace(" ", "-")
    kept = place.once("distributed", key, lambda folder: _compare(shipped, folder, one, other))
    said = " ".join([*_keep(shipped.command), *_SHORT])
    how = (
        f"`python {said}`, processes x threads {one} and {other}, gloo, {kept['epochs']} epochs; "
        f"columns {', '.join(kept['columns'])}"
    )
    name = f"distributed/{shipped.title}/{what}"
    return exact(name, kept["largest"], "largest difference", how, at_most=at_most)


def _compare(shipped: Shipped, folder: Path, *ways: _Way) -> Mapping[str, Any]:
    """The same short training in two ways."""
    places = [folder / str(way).replace(" ", "-") for way in ways]
    for way, out in zip(ways, places, strict=True):
        words = [*_keep(shipped.command), *_SHORT, *way.options, "--threads", str(way.threads), "--fresh"]
        run_command(words, out, processes=way.processes, threads=way.threads)
    # A recipe may train several times: to choose an epoch, then on everything.
    files = sorted(path.relative_to(places[0]) for path in places[0].rglob(FILE))
    largest, epochs, columns = 0.0, 0, set()
    for file in files:
        one, two = (read_curves(out / file) for out in places)
        if len(one) != len(two) or not one:
            raise RuntimeError(
                f"{shipped.title}: {file}: expected equal lengths, got {len(one)} and {len(two)}"
            )
        losses = [name for name in one[0] if "loss" in name and name not in OF_THE_MACHINE]
        largest = max(
            largest, *(abs(a[name] - b[name]) for a, b in zip(one, two, strict=True) for name in losses)
        )
        epochs += len(one)
        columns |= set(losses)
    if not columns:
        raise RuntimeError(f"{shipped.title}: expected a {FILE} with a loss below --out, got none")
    return {"largest": largest, "epochs": epochs, "columns": sorted(columns)}


def _keep(command: Sequence[str]) -> list[str]:
    """The recorded command without the arguments that the short form says itself."""
    own = {*_SHORT[::2], "--threads"}
    return [
        word
        for before, word in zip(["", *command], command, strict=False)
        if word not in own and before not in own
    ]
