"""Runs of combining marks, kept as short as Unicode's Stream-Safe Text Format allows (UAX #15, D4).

Normalizing sorts every run of marks by insertion: its time grows with the square of the run's length, and no language
writes runs of more than a few. Not here: normalizing itself (`ngrams`).
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

# What the standard allows between two starters.
MAX_MARKS = 30
# Behind it are no marks.
_TABLE_END = 0x20000


def bound_marks(text: str) -> str:
    """The text with the first `MAX_MARKS` of every run of combining marks; the very same text where no run is longer.

    Linear in the text's length; a text of ASCII costs nothing.
    """
    if len(text) <= MAX_MARKS or text.isascii():
        return text
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    marks = _mark_table()[np.minimum(codes, _TABLE_END)]
    # How far each character stands behind the last one that is no mark.
    at = np.arange(len(codes))
    places = at - np.maximum.accumulate(np.where(marks, -1, at))
    if places.max() <= MAX_MARKS:
        return text
    return codes[places <= MAX_MARKS].tobytes().decode("utf-32-le", "surrogatepass")


@cache
def _mark_table() -> NDArray[np.bool_]:
    """Whether a code point is a mark, or becomes one when it is taken apart (half-width voicing marks)."""
    found = np.zeros(_TABLE_END + 1, np.bool_)
    for code in range(_TABLE_END):
        found[code] = unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0]) != 0
    return found
