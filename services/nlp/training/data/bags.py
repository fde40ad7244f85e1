"""Texts as bags of n-grams: what a classifier learns from.

Lives here: n-grams of many texts, which of them a model gets to know, and how much each is worth before anything is learned
(TF-IDF, sharpened by how unevenly an n-gram is spread over the labels). Not here: what an n-gram is, which training and
serving share (`services.nlp.pipeline.ngrams`), the network (`model/ngrams.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.nlp.pipeline.ngrams import NgramReader, NgramRule, Table, hash_ngrams
from shared.training.errors import TrainingError

# An n-gram that is spread evenly over all labels keeps this share of its weight.
EVEN_SHARE = 0.05


@dataclass(frozen=True)
class Bags:
    """Ragged rows: text i has ids[offsets[i]:offsets[i + 1]] (from 1, ascending) and as many counts."""

    ids: NDArray[np.int64]
    counts: NDArray[np.float32]
    offsets: NDArray[np.int64]  # [items + 1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """N-grams of each text, [items]."""
        return np.diff(self.offsets)

    def take(self, indices: NDArray[np.int64]) -> Bags:
        """Some rows, in the order of `indices`."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Bags(self.ids[places], self.counts[places], offsets)

    def fill(self, longest: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and counts [items, longest], filled up with 0, as the served graph takes them."""
        lengths = self.lengths
        width = max(int(lengths.max(initial=1)), 1) if longest is None else longest
        ids, counts = np.zeros((len(self), width), np.int64), np.zeros((len(self), width), np.float32)
        places = np.arange(width) < lengths[:, None]
        ids[places], counts[places] = self.ids, self.counts
        return ids, counts


def read_bags(texts: Iterable[str], reader: NgramReader) -> Bags:
    """What a model knows of each text; a text in which there is nothing gets an empty row."""
    found = [reader.read(text) for text in texts]
    return join_bags([(one.ids, one.counts) if one else _NOTHING for one in found])


_NOTHING = (np.empty(0, np.int64), np.empty(0, np.float32))


def join_bags(rows: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> Bags:
    """Bags of (ids, counts) pairs."""
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in rows])]).astype(np.int64)
    ids, counts = (np.concatenate([_NOTHING[side], *(row[side] for row in rows)]) for side in (0, 1))
    return Bags(ids.astype(np.int64), counts.astype(np.float32), offsets)


def learn_reader(
    texts: Sequence[str], labels: NDArray[np.int64], rule: NgramRule, *, size: int, min_texts: int = 2
) -> tuple[NgramReader, Bags]:
    """Choose the `size` n-grams that say most about the labels, among those of at least `min_texts` texts.

    Said by the chi-squared statistic between labels and the weights of an n-gram in unit-length TF-IDF rows. Returns the
    reader that knows them, and what it reads in the texts.

    Raises:
        TrainingError: no n-gram is in so many texts.
    """
    rows = [np.unique(hash_ngrams(text, rule), return_counts=True) for text in texts]
    hashes = np.concatenate([row for row, _ in rows])
    counts = np.concatenate([row for _, row in rows]).astype(np.float32)
    lengths = np.array([len(row) for row, _ in rows])
    found, texts_with = np.unique(hashes, return_counts=True)
    table = found[texts_with >= min_texts]
    if not len(table):
        raise TrainingError(f"expected n-grams that {min_texts} texts have, got none; is --limit too small?")
    bags = _look_up(table, hashes, counts, lengths)
    values = normalise(bags, inverse_frequencies(bags, len(table)))
    statistic = _chi_squared(bags, values, labels, len(table))
    chosen = table[np.sort(np.argsort(-statistic, kind="stable")[:size])]
    reader = NgramReader(rule, chosen.astype("<u4").tobytes())
    return reader, _look_up(chosen, hashes, counts, lengths)


def _look_up(table: Table, hashes: Table, counts: NDArray[np.float32], lengths: NDArray[np.int64]) -> Bags:
    """What `NgramReader.read` finds, of many texts at once: text i has the next lengths[i] of `hashes`, ascending."""
    places = np.minimum(np.searchsorted(table, hashes), len(table) - 1)
    known = table[places] == hashes
    before = np.concatenate([[0], np.cumsum(known)])
    offsets = before[np.concatenate([[0], np.cumsum(lengths)])]
    return Bags(places[known].astype(np.int64) + 1, counts[known], offsets)


def inverse_frequencies(bags: Bags, size: int) -> NDArray[np.float32]:
    """ln((1 + n) / (1 + texts with it)) + 1 of each n-gram; [size + 1], 0 for filling."""
    frequency = np.bincount(bags.ids, minlength=size + 1)
    weights = (np.log((1 + len(bags)) / (1 + frequency)) + 1).astype(np.float32)
    weights[0] = 0
    return weights


def weigh(bags: Bags, labels: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Inverse frequencies times how unevenly each n-gram is spread over the labels; [size + 1], 0 for filling.

    Uneven = 1 minus the entropy of its rates by label, as a share of the largest possible; one of a single label keeps all
    of its weight, one of all labels alike `EVEN_SHARE`.
    """
    total, logs = np.zeros(size + 1), np.zeros(size + 1)
    count = 0
    for part, items in _by_label(bags, labels):
        rate = np.bincount(bags.ids[part], minlength=size + 1) / items
        total += rate
        logs += rate * np.log(np.maximum(rate, np.finfo(float).tiny))
        count += 1
    seen = total > 0
    entropy = np.zeros(size + 1)
    entropy[seen] = (np.log(total[seen]) - logs[seen] / total[seen]) / np.log(max(count, 2))
    return (inverse_frequencies(bags, size) * (1 + EVEN_SHARE - entropy)).astype(np.float32)


def normalise(bags: Bags, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each n-gram of each text counts for: (1 + ln count) × weight, every row scaled to unit length; as `ids`."""
    values = (1 + np.log(bags.counts)) * weights[bags.ids]
    rows = np.repeat(np.arange(len(bags)), bags.lengths)
    norms = np.sqrt(np.bincount(rows, values.astype(np.float64) ** 2, minlength=len(bags)))
    return (values / np.maximum(norms, 1e-12)[rows]).astype(np.float32)


def _chi_squared(
    bags: Bags, values: NDArray[np.float32], labels: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """[size], of ids 1..size."""
    total = np.bincount(bags.ids, values, minlength=size + 1)
    statistic = np.zeros(size + 1)
    for part, items in _by_label(bags, labels):
        observed = np.bincount(bags.ids[part], values[part], minlength=size + 1)
        expected = total * (items / len(bags))
        statistic += (observed - expected) ** 2 / np.maximum(expected, 1e-12)
    return statistic[1:]


def _by_label(bags: Bags, labels: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], int]]:
    """For each label its places in `ids`, and its texts."""
    of_place = np.repeat(labels, bags.lengths)
    for label in np.unique(labels):
        yield of_place == label, int((labels == label).sum())
