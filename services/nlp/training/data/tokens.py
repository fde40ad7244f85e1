"""Rated snippets as numbers: token ids by the serving pipeline's tokenizer, padded to tensors.

Lives here: tokenizing for training, training a tokenizer of the data's own, padding. Not here: reading files
(`snippets.py`), how a text is tokenized and cut (`services.nlp.pipeline.tokens`, which serves too).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from services.nlp.pipeline.tokens import TextTokenizer, TokenRule

PAD, UNKNOWN, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


def train_tokenizer(texts: Iterable[str], vocabulary: int = 8000, *, at_least: int = 2) -> bytes:
    """A `tokenizer.json` of word pieces (Schuster and Nakajima 2012) for these texts, without case and accents.

    The marks are ids 0 to 3: filling, unknown, beginning, end. Pieces are those of `text-wordpiece-uncased/1`, so that
    what reads MiniLM's tokenizer reads this one. vocabulary: at most so many pieces, marks included; at_least: pieces
    seen less often are none.
    """
    texts = list(texts)
    learning = _make_tokenizer({})
    # The trainer numbers continuing letters in the order of a hash table, and breaks ties by number: given beforehand, in
    # order, the same texts give the same pieces.
    letters = sorted({letter for text in texts for word in _cut(learning, text) for letter in word})
    marks = [PAD, UNKNOWN, CLS, SEP]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=at_least,
        special_tokens=[*marks, *(f"##{letter}" for letter in letters)],
        show_progress=False,
    )
    learning.train_from_iterator(texts, trainer)
    # Anew, for to the one that learned those letters are marks too.
    tokenizer = _make_tokenizer(learning.get_vocab(with_added_tokens=True))
    tokenizer.add_special_tokens(marks)
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in (CLS, SEP)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{CLS} $A {SEP}", special_tokens=ends)
    return tokenizer.to_str().encode()


def tokenize(content: bytes, texts: Sequence[str], max_tokens: int) -> list[Tensor]:
    """Ids of each text, int64 [tokens], marks included, cut as it is cut when served.

    Raises:
        ValueError: the tokenizer cannot be read, or a text has nothing in it that is read.
    """
    sep = Tokenizer.from_buffer(content).token_to_id(SEP)
    tokenizer = TextTokenizer(content, TokenRule(max_tokens=max_tokens, sep_id=sep))
    rows = []
    for text in texts:
        read = tokenizer.read(text)
        if read is None:
            raise ValueError(f"nothing to read in {text!r}")
        rows.append(torch.tensor(read.ids))
    return rows


def pad(rows: Sequence[Tensor], longest: int) -> tuple[Tensor, Tensor]:
    """Rows [T, …] of unlike lengths to one tensor [B, longest, …], filled with 0, and its mask int64 [B, longest]."""
    filled = rows[0].new_zeros(len(rows), longest, *rows[0].shape[1:])
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for index, row in enumerate(rows):
        filled[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return filled, mask


def _make_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of a text, before they are cut into pieces."""
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
