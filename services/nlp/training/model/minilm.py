"""MiniLM in PyTorch: the 6-layer BERT of all-MiniLM-L6-v2, written out, with the published names of its weights.

Lives here: the network. Not here: where its weights come from (`shared.inference.safetensors`), what is trained on top
(`adapter.py`, `classifier.py`).

Devlin et al. 2018 (BERT), Wang et al. 2020 (MiniLM): token, place and type vectors, six times self-attention and a
two-layer network, each with its residual and its normalisation behind it. Attribute names are those of the published
file, so `load_state_dict` takes it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY, POSITIONS, TYPES = 30522, 512, 2
HIDDEN, INNER, HEADS, LAYERS = 384, 1536, 12, 6
EPSILON = 1e-12


class Embeddings(nn.Module):
    """Token ids [B, T], at most POSITIONS of them, to vectors [B, T, HIDDEN]."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, HIDDEN)
        self.position_embeddings = nn.Embedding(POSITIONS, HIDDEN)
        self.token_type_embeddings = nn.Embedding(TYPES, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, eps=EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        """The first vectors of token ids."""
        places = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device))
        # One text a row: all tokens are of type 0.
        return self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, hidden: Tensor, empty: Tensor) -> Tensor:
        query, key, value = (_part(linear(hidden)) for linear in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) / math.sqrt(HIDDEN // HEADS)
        shares = torch.softmax(scores.masked_fill(empty, torch.finfo(scores.dtype).min), dim=-1)
        mixed = shares @ value
        return mixed.transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """A linear layer whose result is added to what it came from, and normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, eps=EPSILON)

    def forward(self, inner: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(inner) + residual)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self = _SelfAttention()
        self.output = _Output(HIDDEN)

    def forward(self, hidden: Tensor, empty: Tensor) -> Tensor:
        return self.output(self.self(hidden, empty), hidden)


class _Intermediate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(HIDDEN, INNER)

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.gelu(self.dense(hidden))


class Layer(nn.Module):
    """One of the six: vectors [B, T, HIDDEN] and what is filling, bool [B, 1, 1, T], to vectors of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.intermediate = _Intermediate()
        self.output = _Output(INNER)

    def forward(self, hidden: Tensor, empty: Tensor) -> Tensor:
        """The next layer's vectors."""
        attended = self.attention(hidden, empty)
        return self.output(self.intermediate(attended), attended)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))


class MiniLm(nn.Module):
    """Token ids and mask, both int64 [B, T], to token vectors [B, T, HIDDEN]."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = _Encoder()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The last layer's vectors."""
        return self.run_upper(self.run_lower(ids, mask, LAYERS), mask, LAYERS)

    def run_lower(self, ids: Tensor, mask: Tensor, count: int) -> Tensor:
        """The vectors after the first `count` layers."""
        hidden = self.embeddings(ids)
        empty = _find_empty(mask)
        for layer in self.encoder.layer[:count]:
            hidden = layer(hidden, empty)
        return hidden

    def run_upper(self, hidden: Tensor, mask: Tensor, count: int) -> Tensor:
        """The last vectors, from those after the first `count` layers."""
        empty = _find_empty(mask)
        for layer in self.encoder.layer[count:]:
            hidden = layer(hidden, empty)
        return hidden


def load_minilm(tensors: Mapping[str, np.ndarray]) -> MiniLm:
    """Build the network out of the published tensors.

    Raises:
        RuntimeError: a tensor is missing or of another shape (torch's own text names it).
    """
    model = MiniLm()
    # The numbers 0 to 511, which older releases stored beside the weights; and the head for [CLS], which the sentence
    # vectors do without.
    unused = [name for name in tensors if name.endswith("position_ids") or name.startswith("pooler.")]
    kept = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items() if name not in unused}
    model.load_state_dict(kept)
    return model


def pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of the vectors [B, T, H] that the mask [B, T] keeps: [B, H]."""
    weight = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)


def _part(hidden: Tensor) -> Tensor:
    """[B, T, HIDDEN] to [B, HEADS, T, HIDDEN / HEADS]."""
    return hidden.unflatten(2, (HEADS, HIDDEN // HEADS)).transpose(1, 2)


def _find_empty(mask: Tensor) -> Tensor:
    """What attention must not look at, bool [B, 1, 1, T]."""
    return (mask == 0)[:, None, None, :]
