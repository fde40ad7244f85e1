"""Two processes give one process's loss curve, for every model that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.training.curves import FILE, OF_THE_MACHINE, read_curves
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact
from tests.quality.shipped import Shipped, list_shipped, run_command

_MOST = 1e-3
# The short form of each recipe: the curve is compared, not the model.
_SHORT = ["--limit", "2000", "--epochs", "2", "--threads", "1", "--device", "cpu"]


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model: the largest difference of the training loss over the epochs."""
    for shipped in list_shipped(place):
        kept = place.once("distributed", shipped.key, lambda folder, one=shipped: _compare(one, folder))
        said = " ".join([*shipped.command, *_SHORT])
        how = f"`python {said}`, gloo, {kept['epochs']} epochs; columns {', '.join(kept['columns'])}"
        yield exact(
            f"distributed/{shipped.title}/loss", kept["largest"], "largest difference", how, at_most=_MOST
        )


def _compare(shipped: Shipped, folder: Path) -> Mapping[str, Any]:
    """The same short training by one process and by two."""
    words = [*shipped.command[:2], *_keep_kind(shipped.command[2:]), *_SHORT, "--fresh"]
    for processes in (1, 2):
        run_command(words, folder / str(processes), processes=processes, threads=1)
    # A recipe may train several times: to choose an epoch, then on everything.
    files = sorted(path.relative_to(folder / "1") for path in (folder / "1").rglob(FILE))
    largest, epochs, columns = 0.0, 0, set()
    for file in files:
        one, two = (read_curves(folder / str(processes) / file) for processes in (1, 2))
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


def _keep_kind(words: Sequence[str]) -> list[str]:
    """The recorded arguments without those that the short form says itself."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in _SHORT:
            skip = True
        else:
            kept.append(word)
    return kept
