"""From texts to n-grams: the input of the trained text classifiers (`text-ngrams/1`), in training and in serving alike.

A text is folded (NFKC, small letters; of a run of combining marks the first 30 count) and cut into tokens and blanks; its
runs of words and of characters are hashed to 32 bits. The model's table says which hashes it knows: an id is a place in the
table + 1, what is not in it is left out, 0 is filling. All in numpy: 1,000 characters take a fraction of a millisecond, and
no text costs more than `max_characters` of it.

Hashes of substrings are differences of one running sum (Rabin and Karp's rolling hash, modulo 2^64, over characters that
were mixed first) brought to the same power of the base; the mixing is splitmix64's (Steele, Lea and Flood 2014).
Not here: which n-grams a model knows (`services.nlp.training`), weights of n-grams (inside the graph).
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.nlp.pipeline.marks import bound_marks

PREPROCESSING = "text-ngrams/1"

Hashes = NDArray[np.uint64]
Table = NDArray[np.uint32]

# Classes of characters. What is of none (blanks, control and formatting characters, what the rule leaves out) separates.
_SEPARATOR, _LETTER, _DIGIT, _SIGN = range(4)
_CLASSES = {"letters": _LETTER, "digits": _DIGIT, "signs": _SIGN}
_CLASS_OF_CATEGORY = {"L": _LETTER, "M": _LETTER, "N": _DIGIT, "P": _SIGN, "S": _SIGN}
# Above it are rare ideographs up to U+3FFFF, and nothing that is read.
_TABLE_END, _IDEOGRAPHS_END = 0x20000, 0x40000

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# Keeps `the` as a word apart from `the` as three characters.
_WORD_SALT, _CHARACTER_SALT = 1 << 40, 1 << 41

# Neither short nor ASCII, so that it is looked up in every table.
_FIRST_TEXT = "é" * 64
_BLANK, _ZERO = ord(" "), ord("0")


class NgramRule(BaseModel):
    """How texts become n-grams, as the artifact's constant `ngrams` states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Words that follow each other: 1 = words, 2 = pairs.
    word_orders: tuple[Annotated[int, Field(ge=1, le=4)], ...] = ()
    # Characters that follow each other; a blank stands for whatever separates tokens, and before and behind the text.
    character_orders: tuple[Annotated[int, Field(ge=1, le=8)], ...] = ()
    # `inside`: a run of characters has blanks at its ends only; `across`: it may reach over several tokens.
    characters: Literal["inside", "across"] = "inside"
    # Runs of one of these classes are tokens; digits count as 0 each, so that 1,234 and 5,678 are one token.
    keep: tuple[Literal["letters", "digits", "signs"], ...] = ("letters",)
    lowercase: bool = True
    max_characters: int = Field(default=20_000, ge=1, le=100_000)

    @model_validator(mode="after")
    def _check_orders(self) -> "NgramRule":
        if not self.word_orders and not self.character_orders:
            raise ValueError("expected word_orders or character_orders, got neither")
        return self


@dataclass(frozen=True)
class Ngrams:
    """What a model knows of one text."""

    ids: NDArray[
        np.int64
    ]  # [n], ascending, each once, from 1; empty where the model knows nothing in the text
    counts: NDArray[np.float32]  # [n], how often each comes
    known: float  # share of the text's n-grams that the model knows, 0..1
    truncated: bool


class NgramReader:
    """Turns texts into the n-grams of one model; stateless once made, and usable from several threads."""

    def __init__(self, rule: NgramRule, table: bytes) -> None:
        """Read the model's table: 32-bit hashes, little-endian, strictly ascending (the artifact's asset `ngrams`).

        Raises:
            ValueError: it is no such table.
        """
        if not table or len(table) % 4:
            raise ValueError(f"ngrams: expected a table of 32-bit numbers, got {len(table)} bytes")
        hashes = np.frombuffer(table, "<u4").astype(np.uint32)
        if (hashes[1:] <= hashes[:-1]).any():
            raise ValueError("ngrams: expected strictly ascending numbers")
        self.rule = rule
        self._table: Table = hashes
        # The tables of characters and powers are made now, and no text waits for them.
        hash_ngrams(_FIRST_TEXT, rule)

    @classmethod
    def open(cls, constants: Mapping[str, Any], table: bytes) -> "NgramReader":
        """Make it from an artifact's constants (`ngrams`) and the content of its asset `ngrams`.

        Raises:
            ValueError: one of them is not as the format says.
        """
        return cls(NgramRule.model_validate(constants.get("ngrams")), table)

    def __len__(self) -> int:
        """How many n-grams the model knows: ids are 1..len."""
        return len(self._table)

    @property
    def table(self) -> Table:
        """The hashes that the model knows, ascending; not to be changed."""
        return self._table

    def read(self, text: str) -> Ngrams | None:
        """Read any Unicode text; None if there is nothing in it that the rule keeps (blanks, signs, emoji)."""
        hashes = hash_ngrams(text, self.rule)
        if not len(hashes):
            return None
        # Ascending keys are looked up several times as fast, and equal ones come to stand beside each other.
        hashes.sort()
        places = np.searchsorted(self._table, hashes)
        # One behind the last place is not the table's; the last hash is none of those that would go there.
        np.minimum(places, len(self._table) - 1, out=places)
        ids = places[self._table[places] == hashes]
        known = len(ids) / len(hashes)
        first = np.flatnonzero(np.diff(ids, prepend=-1))
        return Ngrams(
            ids=ids[first].astype(np.int64) + 1,
            counts=np.diff(first, append=len(ids)).astype(np.float32),
            known=known,
            truncated=len(text) > self.rule.max_characters,
        )


def make_row(ngrams: Ngrams) -> dict[str, NDArray[Any]]:
    """One text as the model takes it: `ids` int64 [1, n] and `counts` float32 [1, n], n ≥ 1."""
    if not len(ngrams.ids):  # filling only: the model answers with what it knows of no text at all
        return {"ids": np.zeros((1, 1), np.int64), "counts": np.zeros((1, 1), np.float32)}
    return {"ids": ngrams.ids[None], "counts": ngrams.counts[None]}


def hash_ngrams(text: str, rule: NgramRule) -> Table:
    """Hash every n-gram of a text, uint32 [m]: those that come twice are there twice; in no order that means anything.

    Only the first `max_characters` are looked at.
    """
    codes, classes = _fold(text, rule)
    if not len(codes):
        return np.empty(0, np.uint32)
    powers, inverses = _powers(rule.max_characters + 2)
    running = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_mix(codes.astype(np.uint64)) * powers[: len(codes)], out=running[1:])
    parts = [
        *_hash_words(classes, rule.word_orders, running, inverses),
        *_hash_characters(classes == _SEPARATOR, rule, running, inverses),
    ]
    # The upper half is the better mixed one.
    return (np.concatenate(parts) >> np.uint64(32)).astype(np.uint32) if parts else np.empty(0, np.uint32)


def _fold(text: str, rule: NgramRule) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Characters (code points) and their classes, with one separator before, behind, between; none if nothing is kept."""
    # Unbounded runs of marks would cost the square of their length, and nobody else would run meanwhile.
    text = unicodedata.normalize("NFKC", bound_marks(text[: rule.max_characters]))
    if rule.lowercase:
        text = text.lower()
    raw = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = np.full(min(len(raw), rule.max_characters) + 2, _BLANK, np.uint32)
    codes[1:-1] = raw[: rule.max_characters]
    classes = _classify(codes, rule.keep)
    # Of several separators side by side the first stays.
    blank = classes == _SEPARATOR
    stays = np.ones(len(codes), bool)
    stays[1:] = ~(blank[1:] & blank[:-1])
    codes, classes = codes[stays], classes[stays]
    codes[classes == _SEPARATOR] = _BLANK
    codes[classes == _DIGIT] = _ZERO
    return (codes, classes) if len(codes) > 1 else (codes[:0], classes[:0])


def _classify(codes: NDArray[np.uint32], keep: tuple[str, ...]) -> NDArray[np.uint8]:
    table = _class_table(keep)
    found = table[np.minimum(codes, _TABLE_END)]
    if "letters" in keep and codes.max() >= _TABLE_END:
        found[(codes >= _TABLE_END) & (codes < _IDEOGRAPHS_END)] = _LETTER
    return found


@cache
def _class_table(keep: tuple[str, ...]) -> NDArray[np.uint8]:
    """Class of every code point below `_TABLE_END`; one more place for those above, which separate."""
    kept = {_CLASSES[name] for name in keep}
    found = np.zeros(_TABLE_END + 1, np.uint8)
    for code in range(_TABLE_END):
        wanted = _CLASS_OF_CATEGORY.get(unicodedata.category(chr(code))[0], _SEPARATOR)
        found[code] = wanted if wanted in kept else _SEPARATOR
    return found


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers 0, 1, … of the base and of its inverse, modulo 2^64."""

    def power(base: int) -> Hashes:
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)

    return power(_BASE), power(_BASE_INVERSE)


def _mix(values: Hashes) -> Hashes:
    """splitmix64's finish: every bit of a value moves half of the bits of its hash."""
    values = values + np.uint64(_BASE)
    values ^= values >> np.uint64(30)
    values *= _MIX_1
    values ^= values >> np.uint64(27)
    values *= _MIX_2
    values ^= values >> np.uint64(31)
    return values


def _hash_words(
    classes: NDArray[np.uint8], orders: tuple[int, ...], running: Hashes, inverses: Hashes
) -> list[Hashes]:
    """A hash for every token and for every run of them; tokens are runs of one class."""
    if not orders:
        return []
    edges = np.flatnonzero(classes[1:] != classes[:-1]) + 1
    starts = edges[classes[edges] != _SEPARATOR]
    ends = edges[classes[edges - 1] != _SEPARATOR]
    words = _mix((running[ends] - running[starts]) * inverses[starts])
    made, chain = [], words
    for order in range(1, max(orders) + 1):
        if order > 1:
            if len(chain) < 2:
                break
            chain = _mix(chain[:-1] * np.uint64(_BASE)) + words[order - 1 :]
        if order in orders:
            made.append(_mix(chain ^ np.uint64(_WORD_SALT * order)))
    return made


def _hash_characters(
    blank: NDArray[np.bool_], rule: NgramRule, running: Hashes, inverses: Hashes
) -> list[Hashes]:
    """A hash for every run of characters that is not a blank alone."""
    made = []
    blanks = np.zeros(len(blank) + 1, np.int64)
    np.cumsum(blank, out=blanks[1:])
    for order in rule.character_orders:
        count = len(blank) - order + 1
        if count < 1:
            continue
        hashes = (running[order:] - running[:count]) * inverses[:count]
        if order == 1:
            wanted = ~blank
        elif rule.characters == "inside":
            wanted = blanks[order - 1 : order - 1 + count] == blanks[1 : count + 1]
        else:
            wanted = np.ones(count, bool)
        made.append(_mix(hashes[wanted] ^ np.uint64(_CHARACTER_SALT * order)))
    return made
