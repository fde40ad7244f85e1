"""From texts to the token numbers that a model reads, and to rows of equal length.

Lives here: the tokenizer (the `tokenizers` library's, from the artifact's file), truncation, padding. Not here: running
the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

# Rows are padded to a multiple of this, so that texts of different callers have equal shapes and batch together. A text
# of one token more or less costs the same anyway: the kernels work in tiles of this size.
PAD_MULTIPLE = 16
# A run takes no longer for being split, and a short text of another caller gets its turn between two runs of a long list.
RUN_TOKENS = 512
# A text is mostly tokenized for nothing where the model reads only its beginning, and 20,000 Chinese characters take 0.1 s:
# this many characters per token that the model reads are tried first. English has four to five.
HEAD_CHARACTERS_PER_TOKEN = 8
# Where the head is cut inside of a mark such as `[MASK]`, its pieces are words of their own: three of them.
SLACK_TOKENS = 8


@dataclass(frozen=True)
class Tokens:
    """One text as the model reads it, marks of beginning and end included."""

    ids: tuple[int, ...]
    truncated: bool

    @property
    def padded_length(self) -> int:
        """Columns of this text's row."""
        return -(-len(self.ids) // PAD_MULTIPLE) * PAD_MULTIPLE


class TokenRule(BaseModel):
    """The model's limits and marks, as its constants state them."""

    model_config = ConfigDict(frozen=True)

    max_tokens: int = Field(ge=3)
    pad_id: int
    sep_id: int


class TextTokenizer:
    """Turns texts into tokens; stateless once made, and usable from several threads."""

    def __init__(self, content: bytes, rule: TokenRule) -> None:
        """Read a `tokenizer.json`.

        Raises:
            ValueError: it is none.
        """
        self._tokenizer = Tokenizer.from_buffer(content)
        # A file may carry both, and a text that was cut by the library would not be known to be cut.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._rule = rule

    def read(self, text: str) -> Tokens | None:
        """Tokenize any Unicode text; None if there is nothing in it that the model reads (blanks, control characters)."""
        rule = self._rule
        length = HEAD_CHARACTERS_PER_TOKEN * rule.max_tokens
        while length < len(text):
            if ids := self._read_head(text[:length]):
                return Tokens((*ids, rule.sep_id), truncated=True)
            length *= 2
        ids = self._tokenizer.encode(text).ids
        if len(ids) <= 2:
            return None
        if len(ids) <= rule.max_tokens:
            return Tokens(tuple(ids), truncated=False)
        return Tokens((*ids[: rule.max_tokens - 1], rule.sep_id), truncated=True)

    def _read_head(self, head: str) -> list[int]:
        """All tokens that the model reads of a text that begins with `head`, but for the end mark; empty if more is needed.

        What follows a word does not change it: only the word that the cut goes through may be another in the whole text.
        """
        encoding = self._tokenizer.encode(head)
        words = encoding.word_ids[:-1]
        if not words or words[-1] is None:
            return []
        whole = words.index(words[-1])
        if whole < self._rule.max_tokens + SLACK_TOKENS:
            return []
        ids: list[int] = encoding.ids[: self._rule.max_tokens - 1]
        return ids


def make_rows(texts: Sequence[Tokens], rule: TokenRule) -> dict[str, NDArray[np.int64]]:
    """Pad texts of one `padded_length` to `input_ids` and `attention_mask`, both int64 [N, padded_length]."""
    ids = np.full((len(texts), texts[0].padded_length), rule.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = text.ids
        mask[row, : len(text.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def group_rows(texts: Sequence[Tokens], max_rows: int) -> list[list[int]]:
    """Group the indices of texts of one `padded_length` for a run each, shortest first, within `max_rows` and a budget."""
    by_length: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        by_length.setdefault(text.padded_length, []).append(index)
    groups = []
    for length, indices in sorted(by_length.items()):
        rows = max(1, min(max_rows, RUN_TOKENS // length))
        groups += [indices[start : start + rows] for start in range(0, len(indices), rows)]
    return groups
