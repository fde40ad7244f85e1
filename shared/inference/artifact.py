"""What a recipe makes: the parts of an artifact before they are written to a folder.

Lives here: the plain values that recipes return. Not here: reading, checking and writing artifact folders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph: its name, its Open Inference Protocol dtype, its shape (-1 = dynamic)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphDraft:
    """One graph's bytes, the file they go to, and its signature.

    `max_batch_size` is 0 where the first axis is no batch axis: such a graph runs alone and is never concatenated.
    """

    content: bytes
    file: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch_size: int


@dataclass(frozen=True)
class Draft:
    """All that a recipe knows of an artifact; what the catalogue knows (licence, source) is added when it is written."""

    graphs: Mapping[str, GraphDraft]
    constants: Mapping[str, object]
    preprocessing: str
    golden: Mapping[str, NDArray[np.generic]]  # `<graph>/in/<input>` and `<graph>/out/<output>`
    golden_made_by: str
    tolerance: Mapping[str, Mapping[str, float]]  # provider -> {"rtol", "atol"}
    assets: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)  # asset -> (file name, content)
