"""Words of the news, drawn from how often runs of 1 to 5 letters come inside words (lingua's counts for 75 languages).

Lives here: reading the counts, and the chain of letters that they make. A run's count is published as a share of its
beginning's: of `hous`, how often `house` follows. So every run's share of all letters is a product, and from the shares of
runs of up to 5 letters follow those of words: of a whole word of 1 to 3 letters, what of its run has no letter before it and
none behind it (by inclusion and exclusion); of the first 4 letters of a longer one, what has none before it. From there on
each letter is drawn by the 4 before it, and a word ends as often as no letter followed them. Most words that come out are
words of the language, as frequent as in its news; the others look like them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import brotli
import numpy as np
from numpy.typing import NDArray

from services.nlp.training.data.everyday import Words
from shared.training.errors import DataError

FOLDER = Path("lingua/lingua/language-models")
FILES = tuple(f"{kind}grams.json.br" for kind in ("uni", "bi", "tri", "quadri", "five"))
# Whose counts hold no words: of Chinese, Japanese and Korean only single characters are counted; in scripts of India and
# Thailand the signs of vowels are no letters to the package, and part words; so does in Kazakh the Latin i, which many of
# its texts write for the Cyrillic one.
WITHOUT_WORDS = frozenset({"bn", "gu", "hi", "ja", "kk", "ko", "mr", "pa", "ta", "te", "th", "zh"})
DRAWN = 100_000  # words of a language: one that makes up 1 in 10,000 comes ten times
LONGEST = 25  # letters; what goes on further is left out, as the chain may turn in a circle

_SEED = 7  # the same words in every training
_LEAST = 1e-10  # share of letters; below is rounding, as one of a million sentences' letters is 1e-8
_ADVICE = "run `sensorium data pull lingua` again"


@dataclass(frozen=True)
class Runs:
    """Runs of one length by their code (places of their letters in the alphabet, as digits), ascending.

    given: share of the run among all that begin with its letters but the last. shares: of all letters.
    """

    codes: NDArray[np.int64]
    given: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """What words of a language are drawn from.

    starts: whole words of 1 to 3 letters, then the first 4 letters of the others; shares: of all words, which sum to 1.
    runs: of 5 letters.
    """

    letters: str
    starts: tuple[str, ...]
    shares: NDArray[np.float64]
    runs: Runs


def read_words(data: Path, languages: Iterable[str]) -> dict[str, Words]:
    """Language -> words drawn from its counts, each as often as it came; languages without counts of words are left out.

    Raises:
        DataError: there are no counts at all, or a file is not as published.
    """
    folder = data / FOLDER
    if not any(folder.glob(f"*/{FILES[-1]}")):
        raise DataError(folder, expected="counts of letters", got="none", advice=_ADVICE)
    return {
        language: draw_words(read_chain(folder / language), DRAWN, np.random.default_rng(_SEED))
        for language in sorted(set(languages) - WITHOUT_WORDS)
        if (folder / language).is_dir()
    }


def read_chain(folder: Path) -> Chain:
    """Read the five files of a language, and find out how its words begin.

    Raises:
        DataError: one is missing, or not as published.
    """
    listed = [_read_file(folder / file, length) for length, file in enumerate(FILES, start=1)]
    letters = "".join(sorted(listed[0]))
    orders: list[Runs] = []
    for file, counted in zip(FILES, listed, strict=True):
        orders.append(_order(folder / file, counted, letters, orders[-1] if orders else None))
    base = len(letters)
    starts, shares = [], []
    for length in range(1, 5):
        runs, longer = orders[length - 1], orders[length]
        left = runs.shares - _add_up(runs, longer.codes % base**length, longer)
        if length < 4:
            left -= _add_up(runs, longer.codes // base, longer)
            both = orders[length + 1]
            left += _add_up(runs, both.codes // base % base**length, both)
        found = left > _LEAST
        starts += _spell(runs.codes[found], length, letters)
        shares.append(left[found])
    total = np.concatenate(shares)
    if not starts:
        raise DataError(folder, expected="runs that begin a word", got="none", advice=_ADVICE)
    return Chain(letters, tuple(starts), total / total.sum(), orders[4])


def draw_words(chain: Chain, count: int, rng: np.random.Generator) -> Words:
    """Draw so many words; returns those that came to an end within 25 letters, and how often each did."""
    base, runs = len(chain.letters), chain.runs
    # Row by row a word's letters as Unicode points; 0 behind its end.
    points = np.array([_points(start) for start in chain.starts], np.uint32)
    written = np.zeros((count, LONGEST + 1), np.uint32)
    written[:, :4] = points[rng.choice(len(points), count, p=chain.shares)]
    alphabet = _points(chain.letters, base)
    growing = np.flatnonzero(written[:, 3])
    until = np.concatenate([[0.0], np.cumsum(runs.given)])
    for place in range(4, LONGEST + 1):
        context = _encode(written[growing, place - 4 : place], alphabet) * base
        begin, end = np.searchsorted(runs.codes, context), np.searchsorted(runs.codes, context + base)
        # What the shares of the next letters leave of 1 is the end of the word.
        chosen = np.searchsorted(until[1:], until[begin] + rng.random(len(growing)), side="right")
        goes_on = chosen < end
        growing = growing[goes_on]
        written[growing, place] = alphabet[runs.codes[chosen[goes_on]] % base]
    ended = np.ascontiguousarray(written[written[:, LONGEST] == 0, :LONGEST])
    words, counts = np.unique(ended.view(f"<U{LONGEST}")[:, 0], return_counts=True)
    return Words(tuple(words.tolist()), counts / max(counts.sum(), 1))


def _read_file(path: Path, length: int) -> dict[str, float]:
    """Run -> share of its beginning; the file lists runs by their share, as a fraction."""
    try:
        listed = json.loads(brotli.decompress(path.read_bytes()))["ngrams"]
        found = {}
        for fraction, runs in listed.items():
            above, below = fraction.split("/")
            found.update(dict.fromkeys(runs.split(" "), int(above) / int(below)))
        if not found or any(len(run) != length for run in found):
            raise ValueError("none, or of another length")
    except (
        OSError,
        brotli.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ZeroDivisionError,
    ) as error:
        raise DataError(
            path,
            expected=f"shares of runs of {length} letters",
            got=str(error) or "another format",
            advice=_ADVICE,
        ) from error
    return found


def _order(path: Path, counted: dict[str, float], letters: str, shorter: Runs | None) -> Runs:
    """Runs by their codes; a run's share is its beginning's times what it has of that."""
    length = len(next(iter(counted)))
    points = np.array(list(counted)).view(np.uint32).reshape(-1, length)
    alphabet = _points(letters, len(letters))
    if not np.isin(points, alphabet).all():
        raise DataError(path, expected="letters of the shortest runs", got="others", advice=_ADVICE)
    codes = _encode(points, alphabet)
    order = np.argsort(codes)
    codes, given = codes[order], np.array(list(counted.values()))[order]
    if shorter is None:
        return Runs(codes, given, given)
    beginnings = codes // len(letters)
    places = np.searchsorted(shorter.codes, beginnings).clip(max=len(shorter.codes) - 1)
    if (shorter.codes[places] != beginnings).any():
        raise DataError(path, expected="runs whose beginning is counted too", got="others", advice=_ADVICE)
    return Runs(codes, given, given * shorter.shares[places])


def _add_up(runs: Runs, inside: NDArray[np.int64], longer: Runs) -> NDArray[np.float64]:
    """Of each run the shares of the longer ones that it is inside of; inside: the code of the run in each longer one."""
    places = np.searchsorted(runs.codes, inside)
    return np.bincount(places, weights=longer.shares, minlength=len(runs.codes))[: len(runs.codes)]


def _encode(points: NDArray[np.uint32], alphabet: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Codes of rows of letters."""
    codes = np.zeros(len(points), np.int64)
    for column in np.searchsorted(alphabet, points).T:
        codes = codes * len(alphabet) + column
    return codes


def _spell(codes: NDArray[np.int64], length: int, letters: str) -> list[str]:
    """Runs of codes."""
    base = len(letters)
    places = codes[:, None] // base ** np.arange(length - 1, -1, -1) % base
    return ["".join(letters[place] for place in row) for row in places.tolist()]


def _points(text: str, length: int = 4) -> NDArray[np.uint32]:
    """Unicode points of a text, filled with 0."""
    return np.array([text], f"<U{length}").view(np.uint32)
