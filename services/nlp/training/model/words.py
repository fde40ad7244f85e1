"""A weight for each word piece, whatever stands around it, beside a network that reads sentences (Cheng et al. 2016, "wide
and deep"): fine-tuning on some thousand sentences leaves rare words as they were, counting does not.

Lives here: fitting the weights, and how much of them is added to a network's logits. Not here: the sum in the network
(`classifier.MiniLmText`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_STEPS = 100  # of L-BFGS; the loss no longer moves after some 40
_LEAST = (
    0.05  # of a network that has learned nothing: it is heard all the same, so that its answers have a sign
)
_RAREST = 5.0  # a piece that two of ten thousand texts have is about as free as the prior lets weights be


@dataclass(frozen=True)
class Blend:
    """The network's logits times `scale`, and its words' times `share`: both calibrated and in proportion."""

    scale: float
    share: float


def fit_words(rows: Sequence[Tensor], positive: Tensor, vocabulary: int, *, strength: float = 4.0) -> Tensor:
    """Logistic regression of texts on their pieces: float32 [vocabulary], what one piece adds in a text of one.

    rows: int64 [tokens] each; positive: float32 [texts], how positive each is meant. A text's score is the sum of its
    pieces' weights over the square root of its length. strength: of the weights' prior, as scikit-learn's C; rare pieces
    have a wider one (inverse document frequency).
    """
    lengths = torch.tensor([len(row) for row in rows])
    pieces, texts = torch.cat(list(rows)), torch.repeat_interleave(torch.arange(len(rows)), lengths)
    seen = torch.unique(texts * vocabulary + pieces) % vocabulary
    frequency = torch.bincount(seen, minlength=vocabulary)
    width = torch.log((1 + len(rows)) / (1 + frequency)) / _RAREST
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)[:-1]])
    each = (1 / lengths.float().sqrt()).repeat_interleave(lengths)
    narrow = torch.zeros(vocabulary, requires_grad=True)
    optimizer = torch.optim.LBFGS([narrow], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def measure() -> Tensor:
        optimizer.zero_grad()
        table = (narrow * width)[:, None]
        scores = functional.embedding_bag(pieces, table, offsets, mode="sum", per_sample_weights=each)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(scores, positive, reduction="sum")
        loss = loss + narrow.square().sum() / (2 * strength)
        loss.backward()
        return loss

    optimizer.step(measure)
    return (narrow * width).detach()


def score_words(words: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """How positive the pieces of each text are, float32 [texts]."""
    return torch.stack([words[row].sum() / math.sqrt(len(row)) for row in rows])


def fit_blend(margins: Tensor, scores: Tensor, labels: Tensor) -> Blend:
    """The shares that make the labels of validation texts most likely; the network's is above zero, the words' not below.

    margins: positive minus negative logit of the network, float [texts]; scores: of the words; labels: 0 or 1.
    """
    margins, scores, labels = margins.double(), scores.double(), labels.double()
    shares = torch.tensor([1.0, 0.1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([shares], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def measure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(shares[0] * margins + shares[1] * scores, labels)
        loss.backward()
        return loss

    optimizer.step(measure)
    scale, share = shares.detach().tolist()
    return Blend(max(scale, _LEAST), max(share, 0.0))
