"""What every way of classifying a text has in common: a model's row in, a score per label out.

Not here: the ways (`classifier` for labels that were trained, `embedder` for those of the caller), which one a request
means (`choice`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.nlp.reading import TextReader
from services.nlp.running import Row


@dataclass(frozen=True)
class Scores:
    """One text's scores, in the order of the labels; similarities only where labels were compared with it."""

    shares: NDArray[np.float32]  # [L], their sum is 1
    similarities: NDArray[np.float32] | None = None


class Scorer(Protocol):
    """A model with labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, as replies say them."""

    @property
    def reader(self) -> TextReader:
        """How the model reads."""

    @property
    def output(self) -> str:
        """The graph's output that `score` takes a row of."""

    def score(self, row: Row) -> Scores:
        """The scores of one text."""
