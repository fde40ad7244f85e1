"""The classification extension: an output's highest values as texts `score:index` or `score:index:label`.

The format is Triton's: the score as C's `%f` or a whole number, the index in the row, the label where the artifact has
one. Not here: which outputs are wanted so (`request.py`), the reply (`reply.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.inference.artifact import Artifact
from shared.inference.datatypes import NUMPY_TYPES, Array, widen
from shared.inference.manifest import Tensor

# The asset whose lines are the names of classes.
LABELS_ASSET = "labels"


def read_labels(artifact: Artifact) -> tuple[str, ...]:
    """The artifact's names of classes, one a line; none where it has no such asset. Reads a file.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    if LABELS_ASSET not in artifact.manifest.assets:
        return ()
    return tuple(line.strip() for line in artifact.asset(LABELS_ASSET).read_text("utf-8").splitlines())


def has_labels(tensor: Tensor, labels: Sequence[str], *, batched: bool) -> bool:
    """Whether an output's rows are the classes that the labels name: as many numbers of a row as labels."""
    shape = tensor.shape[1:] if batched else tensor.shape
    return bool(labels) and -1 not in shape and math.prod(shape) == len(labels)


def classify(datatype: str, array: Array, count: int, labels: Sequence[str], *, batched: bool) -> Array:
    """The `count` highest values of each row, highest first, as an object array of texts: [rows, count], or [count].

    Without a batch axis the whole output is one row. A row of fewer values gives them all. Of equal values the one with
    the lower index goes first, what is no number last. `labels` are used where a row has as many values.
    """
    rows = array.shape[0] if batched and array.ndim else 1
    values = widen(datatype, array).reshape(rows, -1) if array.size else array.reshape(rows, 0)
    kept = min(count, values.shape[1])
    named = labels if len(labels) == values.shape[1] else ()
    texts = np.empty((rows, kept), dtype=NUMPY_TYPES["BYTES"])
    for row in range(rows):
        for place, index in enumerate(_find_highest(values[row], kept)):
            text = f"{_format(values[row, index])}:{index}"
            texts[row, place] = f"{text}:{named[index]}" if named else text
    return texts if batched and array.ndim else texts.reshape(kept)


def _find_highest(values: Array, count: int) -> list[int]:
    if values.dtype.kind == "f":
        # Sorts what is no number to the end.
        order = np.argsort(-values, kind="stable")
    else:
        # Whole numbers cannot all be negated: sorted from behind, so that of equal ones the first stays first.
        order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
    return [int(index) for index in order[:count]]


def _format(value: np.generic) -> str:
    return f"{float(value):f}" if value.dtype.kind == "f" else str(int(value))
