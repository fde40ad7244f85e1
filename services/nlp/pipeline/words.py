"""A text cut into what can be left out of it: words, signs, and characters of scripts that write no blanks.

Not here: leaving them out and what that does (`rpc.explain_text`).
"""

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple


class Stretch(NamedTuple):
    """Code points `begin` to `end` of a text; the one at `end` does not belong to it."""

    begin: int
    end: int


_WORD, _SIGN, _SINGLE, _BLANK = range(4)
# First words of the names of letters that stand without blanks between words.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "BOPOMOFO", "YI")
# Inside of a word they belong to it: don't, well-known.
_INNER = "'’-‐"


def split_words(text: str) -> list[Stretch]:
    """The words and signs of a text, in order; blanks and control characters belong to none.

    A run of letters, marks and digits is a word, a run of other signs one of its own; each letter of Chinese, Japanese, Thai
    and their like stands alone, with the marks that follow it.
    """
    found: list[Stretch] = []
    before = _BLANK
    for at, character in enumerate(text):
        kind = _classify(character)
        if character in _INNER and before == _WORD and at + 1 < len(text) and text[at + 1].isalnum():
            kind = _WORD
        if kind == _WORD and before == _SINGLE and unicodedata.category(character).startswith("M"):
            kind = _SINGLE
            found[-1] = Stretch(found[-1].begin, at + 1)
        elif kind == before and kind in (_WORD, _SIGN):
            found[-1] = Stretch(found[-1].begin, at + 1)
        elif kind != _BLANK:
            found.append(Stretch(at, at + 1))
        before = kind
    return found


def join_stretches(words: Sequence[Stretch], most: int) -> list[Stretch]:
    """At most `most` stretches of about as many neighbouring words each."""
    if len(words) <= most:
        return list(words)
    edges = [round(index * len(words) / most) for index in range(most + 1)]
    return [Stretch(words[first].begin, words[last - 1].end) for first, last in itertools.pairwise(edges)]


def leave_out(text: str, stretches: Sequence[Stretch], kept: Sequence[bool]) -> str:
    """The text without those of its stretches that are not kept; what stands between stretches stays."""
    pieces = []
    at = 0
    for stretch, stays in zip(stretches, kept, strict=True):
        if not stays:
            pieces.append(text[at : stretch.begin])
            at = stretch.end
    pieces.append(text[at:])
    return "".join(pieces)


def _classify(character: str) -> int:
    category = unicodedata.category(character)
    if category[0] in "ZC":
        return _BLANK
    if category[0] in "PS":
        return _SIGN
    if category[0] == "L" and unicodedata.name(character, "").startswith(_UNSPACED):
        return _SINGLE
    return _WORD
