"""The ladder of text classifiers, from a bag of words to fine-tuned MiniLM: token ids and mask in, logits out.

Lives here: the networks, all of one signature: `input_ids` and `attention_mask` int64 [B, T], 1 for a token and 0 for
filling, to logits float32 [B, labels]. A row's answer never depends on the rows beside it or on its filling. Not here:
MiniLM itself (`minilm.py`), training (`train_sentiment.py`).
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from services.nlp.training.model.adapter import adapt, merge
from services.nlp.training.model.minilm import HIDDEN, VOCABULARY, MiniLm, pool
from services.nlp.training.model.words import Blend
from shared.training.randomness import GlobalDropout
from shared.training.recurrent import Kind, Recurrent


class EmbeddingBag(nn.Module):
    """The mean of the tokens' vectors and a linear layer: word order does not count (fastText's classifier)."""

    def __init__(self, vocabulary: int, labels: int, *, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = GlobalDropout(dropout)
        self.head = nn.Linear(width, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, labels]."""
        return self.head(self.dropout(pool(self.embedding(input_ids), attention_mask)))


class RecurrentText(nn.Module):
    """A recurrent layer that reads in both directions; the largest value of each state, and a linear layer."""

    def __init__(
        self,
        kind: Kind,
        vocabulary: int,
        labels: int,
        *,
        width: int = 96,
        states: int = 64,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = GlobalDropout(dropout)
        self.recurrent = Recurrent(kind, width, states, bidirectional=True)
        self.head = nn.Linear(2 * states, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, labels]."""
        read = self.recurrent(self.dropout(self.embedding(input_ids)), attention_mask.sum(1))
        # States lie in -1 … 1: filling never is the largest.
        largest = read.masked_fill(attention_mask[:, :, None] == 0, -2.0).amax(1)
        return self.head(self.dropout(largest))


class _Block(nn.Module):
    """Self-attention and a two-layer network, each normalised before and added behind (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.before_inner = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = GlobalDropout(dropout)

    def forward(self, hidden: Tensor, empty: Tensor) -> Tensor:
        each = self.query_key_value(self.before_attention(hidden)).unflatten(2, (3, self.heads, -1))
        query, key, value = each.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        shares = torch.softmax(scores.masked_fill(empty[:, None, None, :], torch.finfo(scores.dtype).min), -1)
        hidden = hidden + self.dropout(self.mixed((shares @ value).transpose(1, 2).flatten(2)))
        return hidden + self.dropout(self.inner(self.before_inner(hidden)))


class SelfAttention(nn.Module):
    """Token and place vectors, blocks of self-attention, and a linear layer over the mean.

    `places` is the longest text that is told apart by place: later tokens get the last place.
    """

    def __init__(
        self,
        vocabulary: int,
        labels: int,
        *,
        width: int = 96,
        heads: int = 4,
        blocks: int = 2,
        places: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(places, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.normal_(self.places.weight, std=0.02)
        self.dropout = GlobalDropout(dropout)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(blocks))
        self.normed = nn.LayerNorm(width)
        self.head = nn.Linear(width, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, labels]."""
        place = torch.arange(input_ids.shape[1], device=input_ids.device).clamp(
            max=self.places.num_embeddings - 1
        )
        hidden = self.dropout(self.embedding(input_ids) + self.places(place))
        empty = attention_mask == 0
        for block in self.blocks:
            hidden = block(hidden, empty)
        return self.head(self.dropout(pool(self.normed(hidden), attention_mask)))


class MiniLmText(nn.Module):
    """MiniLM, the mean of its last vectors, and a linear layer; beside it, a weight for each word piece (`words.py`).

    `tuned` upper layers learn changes of low rank. The layers below are the same for every step and every seed:
    `read_lower` is computed once for each text, `classify` goes on from there. The words' weights are no matter of steps:
    `settle` puts them in at the end.
    """

    def __init__(
        self, minilm: MiniLm, labels: int, *, tuned: int = 3, rank: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.minilm = minilm
        self.lower = len(minilm.encoder.layer) - tuned
        for parameter in minilm.parameters():
            parameter.requires_grad_(False)
        for layer in minilm.encoder.layer[self.lower :]:
            adapt(layer, rank)
        self.dropout = GlobalDropout(dropout)
        self.words = nn.Parameter(torch.zeros(VOCABULARY))
        # Half against the first label, half for the last.
        self.register_buffer("sides", torch.tensor([-0.5, *[0.0] * (labels - 2), 0.5]), persistent=False)
        self.head = nn.Linear(HIDDEN, labels)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, labels]."""
        return self.classify(self.read_lower(input_ids, attention_mask), input_ids, attention_mask)

    def read_lower(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token vectors [B, T, HIDDEN] after the layers that do not learn."""
        return self.minilm.run_lower(input_ids, attention_mask, self.lower)

    def classify(self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits [B, labels] from what `read_lower` returned, the last label's raised by the words' weights."""
        last = self.minilm.run_upper(hidden, attention_mask, self.lower)
        logits = self.head(self.dropout(pool(last.float(), attention_mask)))
        mask = attention_mask.float()
        # No gradient: weights of rare words would hardly move in a few epochs of steps.
        known = (self.words.detach()[input_ids] * mask).sum(1) / mask.sum(1).clamp(min=1).sqrt()
        return logits + known[:, None] * self.sides

    def settle(self, words: Tensor, blend: Blend) -> None:
        """Put in the words' weights, and both in proportion."""
        with torch.no_grad():
            self.words.copy_(words * blend.share)
            self.head.weight *= blend.scale
            self.head.bias *= blend.scale

    def merged(self) -> MiniLmText:
        """A copy with what was learned added to the weights: a plain MiniLM and a linear layer."""
        plain = copy.deepcopy(self).eval()
        merge(plain.minilm)
        return plain
