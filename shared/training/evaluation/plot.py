"""Pictures of a card, as small PNG files that come out the same every time.

Lives here: reliability and confusion. Not here: the Pareto plot (`compression/pareto.py`), which draws with `to_png` too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from shared.training.evaluation.calibration import Bin

LARGEST_BYTES = 60_000  # of a picture beside a card, so that artifacts stay small
_INK, _MODEL, _EVEN = "#222222", "#2b6cb0", "#999999"


def draw_reliability(bins: Sequence[Bin], *, title: str, error: float | None = None) -> bytes:
    """Accuracy over confidence, one point a bin whose size shows its items, beside the diagonal of honest scores."""
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    total = sum(part.items for part in bins)
    axes.plot([0, 1], [0, 1], color=_EVEN, linewidth=1, linestyle="--", label="honest")
    axes.plot([part.confidence for part in bins], [part.accuracy for part in bins], color=_MODEL, linewidth=1)
    axes.scatter(
        [part.confidence for part in bins],
        [part.accuracy for part in bins],
        s=[10 + 150 * part.items / total for part in bins],
        color=_MODEL,
        label="model (size: items)" if error is None else f"model, calibration error {error:.3f}",
    )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return to_png(figure)


def draw_confusion(confusion: NDArray[Any], labels: Sequence[str], *, title: str) -> bytes:
    """Shares of each true label's items by answer; numbers are written in where there are few labels."""
    count = len(labels)
    side = min(2.2 + 0.28 * count, 9.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    rows = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, rows, out=np.zeros(confusion.shape), where=rows > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 8 if count <= 20 else 5
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(count), labels, fontsize=size)
    axes.set(xlabel="answer", ylabel="true label")
    axes.set_title(title, fontsize=10)
    if count <= 12:
        for row, column in np.ndindex(confusion.shape):
            if confusion[row, column]:
                color = "white" if shares[row, column] > 0.5 else _INK
                text = str(int(confusion[row, column]))
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """A figure as PNG of at most LARGEST_BYTES: 64 colours, no date and no version inside."""
    for dots in (110, 80, 60):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=dots, metadata={"Software": None})
        written = io.BytesIO()
        Image.open(drawn).convert("RGB").quantize(64).save(written, format="png", optimize=True)
        if written.tell() <= LARGEST_BYTES:
            break
    return written.getvalue()
