"""Snippets of text that people rated from -4 (very negative) to +4 (very positive): Hutto and Gilbert, ICWSM 2014.

Lives here: reading the four published files, leaving out what is neither positive nor negative, and splits that keep
snippets of nearly the same words on one side. Not here: tokens (`services.nlp.pipeline`), where the files come from
(`sensorium data pull`).

The format is one snippet a line: id, mean rating of at least 20 people, text, separated by tabs. Sentences of one text
share the id's first part (`12_3` is the third of text 12).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.training.errors import DataError

LABELS = ("negative", "positive")
FILES = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
FOLDER = Path("vader/hutto_ICWSM_2014")
NEUTRAL = 0.5  # ratings of at most this size are of neither label
EXTREME = 4.0  # the scale's ends
# Two snippets that share this much of their words are one text told twice: a retweet, a phrase quoted again. Below a half,
# pairs that were looked at were merely of one subject.
ALIKE = 0.6
_WORDS = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Snippet:
    """One rated text."""

    name: str  # `movie/17`: unique over all domains
    text: str
    rating: float
    group: str = ""  # snippets of one group are never split: same source text, or nearly the same words

    @property
    def label(self) -> int:
        """Index into `LABELS`."""
        return int(self.rating > 0)


@dataclass(frozen=True)
class Split:
    """Snippets to learn from, to choose by, and to be judged on."""

    train: tuple[Snippet, ...]
    validation: tuple[Snippet, ...]
    test: tuple[Snippet, ...]


def read_domain(data: Path, domain: str, *, neutral: float = NEUTRAL) -> list[Snippet]:
    """Read one of `FILES` under the data folder, in the file's order, without snippets rated within ±`neutral`.

    Raises:
        DataError: the file is missing or empty, a line is not of the format, or only one label is left.
    """
    path = data / FOLDER / FILES[domain]
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            path, expected="the published file", got="none", advice="run `sensorium data pull vader`"
        ) from None
    return list(_parse(content, path, domain, neutral))


# A measurement reads the same files for each seed, and finding what is alike takes seconds.
@lru_cache(maxsize=2 * len(FILES))
def _parse(content: bytes, path: Path, domain: str, neutral: float) -> tuple[Snippet, ...]:
    snippets = []
    for number, line in enumerate(_decode(content, path).splitlines(), 1):
        fields = line.split("\t")
        try:
            identity, rating, text = fields[0], float(fields[1]), fields[2].strip()
        except (IndexError, ValueError):
            expected = f"line {number}: id, rating and text separated by tabs"
            raise DataError(path, expected=expected, got=repr(line[:60]), advice="pull it again") from None
        if len(fields) != 3 or not abs(rating) <= EXTREME:
            expected = f"line {number}: three fields, a rating from -4 to 4"
            got = f"{len(fields)} fields, rating {fields[1]}"
            raise DataError(path, expected=expected, got=got, advice="pull it again")
        if abs(rating) > neutral and _WORDS.search(text):
            group = f"{domain}/{identity.split('_')[0]}"
            snippets.append(Snippet(f"{domain}/{identity}", text, rating, group))
    if len({snippet.label for snippet in snippets}) < 2:
        got = f"{len(snippets)} snippets of one label" if snippets else "no snippet"
        raise DataError(path, expected="negative and positive snippets", got=got, advice="pull it again")
    return tuple(group_alike(snippets))


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(path, expected="UTF-8", got=str(error), advice="pull it again") from error


def group_alike(snippets: Sequence[Snippet], alike: float = ALIKE) -> list[Snippet]:
    """Join the groups of snippets that have nearly the same words (Jaccard similarity >= `alike`), closed over chains.

    Exact, by prefix filtering (Bayardo et al. 2007): with each text's words ordered from rare to common, two texts that
    are alike share one of their first ones, so that only texts under one rare word are compared.
    """
    texts = [frozenset(_WORDS.findall(snippet.text.lower())) for snippet in snippets]
    counts = Counter(word for words in texts for word in words)
    parent = {snippet.group: snippet.group for snippet in snippets}

    def find(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    under: dict[str, list[int]] = defaultdict(list)
    for index, words in enumerate(texts):
        rare_first = sorted(words, key=lambda word: (counts[word], word))
        prefix = rare_first[: len(words) - math.ceil(alike * len(words)) + 1]
        for other in sorted({other for word in prefix for other in under[word]}):
            if len(words & texts[other]) >= alike * len(words | texts[other]):
                first, second = sorted((find(snippets[index].group), find(snippets[other].group)))
                parent[second] = first
        for word in prefix:
            under[word].append(index)
    return [Snippet(snippet.name, snippet.text, snippet.rating, find(snippet.group)) for snippet in snippets]


def split(snippets: Sequence[Snippet], seed: int, *, test: float = 0.15, validation: float = 0.1) -> Split:
    """Divide by whole groups, at random but for ever the same for a seed; shares are of groups.

    A group's place depends on its name and the seed alone, so that adding snippets moves no other one.
    """
    sides: dict[str, list[Snippet]] = {"train": [], "validation": [], "test": []}
    for snippet in snippets:
        place = _draw(f"{seed}:{snippet.group}")
        side = "test" if place < test else "validation" if place < test + validation else "train"
        sides[side].append(snippet)
    return Split(tuple(sides["train"]), tuple(sides["validation"]), tuple(sides["test"]))


def soften(ratings: Sequence[float], sharpness: float) -> NDArray[np.float32]:
    """The share of positive that a rating stands for: a logistic of `sharpness` times the rating, float32."""
    return (1.0 / (1.0 + np.exp(-sharpness * np.asarray(ratings, np.float64)))).astype(np.float32)


def _draw(key: str) -> float:
    """A number in [0, 1) that belongs to a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
