"""Everyday language: how often words are used (wordfreq), and sentences that language identification is judged by (spaCy's
examples, and phrases of this project).

Lives here: reading them, and making phrases up out of frequent words. Such a phrase has no grammar, but the words and runs
of letters that a language is known by are as frequent in it as where people talk.
"""

from __future__ import annotations

import ast
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
from numpy.typing import NDArray

from shared.training.errors import DataError

WORDS_FOLDER = Path("wordfreq/wordfreq/data")
SENTENCES_FOLDER = Path("spacy-examples")
PHRASES = Path(__file__).with_name("phrases.tsv")
LONGEST = 8  # words of a phrase that is made up

_PREFIX, _SUFFIX = "small_", ".msgpack.gz"
# wordfreq's and spaCy's tags, where the messages' are others. Counts of Serbo-Croatian are of all its written forms in Latin
# letters, and theirs are made of them in equal parts.
_LANGUAGES = {"sh": ("bs", "hr", "sr-Latn"), "zh": ("zh-Hans",)}
_WITHOUT_BLANKS = {"ja", "zh-Hans"}
_ADVICE = "run `sensorium data pull` again"


@dataclass(frozen=True)
class Words:
    """A language's most frequent words, and how often each comes, as shares."""

    words: tuple[str, ...]
    shares: NDArray[np.float64]


def read_words(data: Path) -> dict[str, Words]:
    """Language -> its words, those that have a letter.

    Raises:
        DataError: there are none, or a file is not as published.
    """
    files = sorted((data / WORDS_FOLDER).glob(f"{_PREFIX}*{_SUFFIX}"))
    if not files:
        raise DataError(data / WORDS_FOLDER, expected="counts of words", got="none", advice=_ADVICE)
    found: dict[str, Words] = {}
    for path in files:
        counted = _read_counts(path)
        tag = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        for language in _LANGUAGES.get(tag, (tag,)):
            found[language] = counted
    return found


def count_words(texts: Iterable[str]) -> Words:
    """The words of texts, each as often as it comes there."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in text.split():
            counts[word] = counts.get(word, 0) + 1
    return Words(tuple(counts), np.array(list(counts.values())) / max(sum(counts.values()), 1))


def mix_words(parts: Sequence[Words]) -> Words:
    """Words of several counts, each count for as much: the mean of a word's shares."""
    shares: dict[str, float] = {}
    for part in parts:
        for word, share in zip(part.words, part.shares.tolist(), strict=True):
            shares[word] = shares.get(word, 0.0) + share / len(parts)
    return Words(tuple(shares), np.array(list(shares.values())))


def make_phrases(words: Words, language: str, count: int, rng: np.random.Generator) -> list[str]:
    """So many phrases of 1 to 8 words, drawn as often as they are used."""
    blank = "" if language in _WITHOUT_BLANKS else " "
    lengths = rng.integers(1, LONGEST, count, endpoint=True)
    drawn = rng.choice(len(words.words), int(lengths.sum()), p=words.shares)
    parts = np.split(drawn, np.cumsum(lengths)[:-1])
    return [blank.join(words.words[place] for place in part) for part in parts]


def read_sentences(data: Path) -> list[tuple[str, str]]:
    """(language, sentence) of spaCy's examples: some news, some questions, about seven a language.

    Raises:
        DataError: there are none, or a file is not as published.
    """
    files = sorted((data / SENTENCES_FOLDER).glob("**/lang/*/examples.py"))
    if not files:
        raise DataError(data / SENTENCES_FOLDER, expected="examples", got="none", advice=_ADVICE)
    found = []
    for path in files:
        try:
            [listed] = [
                node.value
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.Assign)
            ]
            sentences = ast.literal_eval(listed)
        except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
            raise DataError(path, expected="a list of sentences", got=str(error), advice=_ADVICE) from error
        for language in _LANGUAGES.get(path.parent.name, (path.parent.name,)):
            found += [(language, sentence) for sentence in sentences]
    return found


def read_phrases() -> list[tuple[str, str]]:
    """(language, phrase) of what is said at a station, in a shop, in the morning: written for this project."""
    lines = PHRASES.read_text(encoding="utf-8").splitlines()
    return [(language, phrase) for language, _, phrase in (line.partition("\t") for line in lines)]


def _read_counts(path: Path) -> Words:
    """wordfreq's own format: a header, then a list of words for every hundredth of a factor of ten, frequent ones first."""
    try:
        header, *steps = msgpack.unpackb(gzip.decompress(path.read_bytes()))
        if header != {"format": "cB", "version": 1}:
            raise ValueError(f"header {header!r}")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise DataError(path, expected="counts of words (cB, 1)", got=str(error), advice=_ADVICE) from error
    counted: Mapping[str, float] = {
        word: 10 ** (-step / 100)
        for step, words in enumerate(steps)
        for word in words
        if any(letter.isalpha() for letter in word)
    }
    shares = np.array(list(counted.values()))
    return Words(tuple(counted), shares / shares.sum())
