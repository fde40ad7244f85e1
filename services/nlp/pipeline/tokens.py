"""From texts to the token numbers that a model reads.

Lives here: the tokenizer (the `tokenizers` library's, from the artifact's file), truncation. Not here: running the model,
and which texts run together, filled up to one length (the model's batcher).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

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


class TokenRule(BaseModel):
    """The model's limits and marks, as its constants state them."""

    model_config = ConfigDict(frozen=True)

    max_tokens: int = Field(ge=3)
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

    def read_nothing(self) -> Tokens:
        """The marks of beginning and end alone."""
        return Tokens(tuple(self._tokenizer.encode("").ids), truncated=False)

    def find_end(self, text: str) -> int:
        """How many code points of a text the model reads."""
        rule = self._rule
        length = HEAD_CHARACTERS_PER_TOKEN * rule.max_tokens
        while True:
            encoding = self._tokenizer.encode(text[:length])
            if len(encoding.ids) > rule.max_tokens + SLACK_TOKENS or length >= len(text):
                break
            length *= 2
        if len(encoding.ids) <= rule.max_tokens:
            return len(text)
        # The last place is the end mark's.
        end: int = encoding.offsets[rule.max_tokens - 2][1]
        return end

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


def make_row(text: Tokens) -> dict[str, NDArray[np.int64]]:
    """One text as the model takes it: `input_ids` and `attention_mask`, both int64 [1, tokens]."""
    ids = np.array([text.ids], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
