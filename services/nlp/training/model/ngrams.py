"""A network over bags of n-grams: one row of weights each, summed, and possibly one layer more.

Without a hidden layer the rows are the labels' own weights: a linear model. With one, each n-gram has `hidden` numbers (an
embedding bag), and labels are told from their weighted sum.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shared.training.randomness import GlobalDropout


class NgramClassifier(nn.Module):
    """Ids INT64 [items, n] and counts FP32 [items, n], 0 = filling -> logits FP32 [items, labels].

    weights: [size + 1], what an n-gram counts for before anything is learned; 0 for filling.
    """

    def __init__(
        self, weights: NDArray[np.float32], labels: int, *, hidden: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        # A table of one column: looked up by name in the exported graph, as the rows are (`compact.py`).
        self.register_buffer("weights", torch.from_numpy(np.asarray(weights, np.float32)[:, None].copy()))
        width = hidden or labels
        self.rows = nn.Embedding(len(weights), width)
        # A linear model starts from nothing; rows that feed a layer must differ.
        nn.init.normal_(self.rows.weight, std=hidden**-0.5) if hidden else nn.init.zeros_(self.rows.weight)
        self.bias = nn.Parameter(torch.zeros(width))
        self.top = (
            nn.Sequential(nn.ReLU(), GlobalDropout(dropout), nn.Linear(hidden, labels)) if hidden else None
        )
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        """The served form: rows of equal length."""
        weights = functional.embedding(ids, self.weights).squeeze(2)
        values = (1 + torch.log(counts.clamp(min=1))) * weights * (counts > 0)
        norms = values.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
        summed = torch.matmul((values / norms).unsqueeze(1), self.rows(ids)).squeeze(1)
        return self._finish(summed) / self.temperature

    def forward_ragged(self, ids: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
        """The learning form: flat ids INT64 [n], their normalised values FP32 [n], where each text begins INT64 [items]."""
        summed = functional.embedding_bag(
            ids, self.rows.weight, offsets, mode="sum", per_sample_weights=values.to(self.rows.weight.dtype)
        )
        return self._finish(summed) / self.temperature

    def _finish(self, summed: Tensor) -> Tensor:
        sums = summed + self.bias
        return sums if self.top is None else self.top(sums)
