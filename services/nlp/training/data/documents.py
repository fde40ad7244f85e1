"""Texts with one label each, and the collections that come as tables with an official split: 20 Newsgroups and Reuters-R8.

Lives here: the values, the reader of the table format, what is set aside for tuning. Not here: e-mails (`mail.py`),
translated messages (`messages.py`), n-grams (`bags.py`).

A table is three lines of heading (names, types, roles), then one document a line: its label, a tab, its text. Both
collections come stripped of everything but small letters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.training.errors import DataError

FOLDER = Path("orangecontrib/text/datasets")
HEADING = (("Category", "Text"), ("d", "string"), ("class", ""))


@dataclass(frozen=True)
class Documents:
    """Texts, the label of each (an index into `names`), and the labels' names."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]  # [items]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Iterable[int]) -> Documents:
        """Some of them, in the order of `indices`."""
        chosen = np.fromiter(indices, np.int64)
        return Documents(tuple(self.texts[index] for index in chosen), self.labels[chosen], self.names)

    def limit(self, count: int | None) -> Documents:
        """At most `count` of them, spread over the whole so that every label stays; None means all."""
        if count is None or count >= len(self):
            return self
        return self.take(np.linspace(0, len(self) - 1, count).round().astype(np.int64))

    @property
    def sha256(self) -> str:
        """Digest of every text and its label, in order."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            digest.update(f"{self.names[label]}\t{text}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def make_documents(rows: Sequence[tuple[str, str]], origin: Path) -> Documents:
    """Documents of (label's name, text) pairs.

    Raises:
        DataError: there are none, or all have one label.
    """
    names = tuple(sorted({name for name, _ in rows}))
    if len(names) < 2:
        raise DataError(
            origin,
            expected="texts of at least two labels",
            got=f"{len(rows)} texts of {', '.join(names) or 'none'}",
            advice="pull the data again or name another folder",
        )
    places = {name: place for place, name in enumerate(names)}
    labels = np.array([places[name] for name, _ in rows], np.int64)
    return Documents(tuple(text for _, text in rows), labels, names)


def read_table(path: Path) -> Documents:
    """Read one table.

    Raises:
        DataError: the file is missing, no UTF-8, without the heading, or a line is not as the format says.
    """
    advice = f"run `sensorium data pull` again: {path.name} is not as it was published"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(
            path, expected="a table of documents", got=str(error.strerror), advice=advice
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            path, expected="UTF-8", got=f"another byte at {error.start}", advice=advice
        ) from error
    heading = tuple(tuple(line.rstrip("\r").split("\t")) for line in lines[: len(HEADING)])
    if heading != HEADING:
        raise DataError(path, expected=f"the heading {HEADING}", got=f"{heading}"[:200], advice=advice)
    rows = []
    for number, line in enumerate(lines[len(HEADING) :], start=len(HEADING) + 1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not tab or not name or not text.strip():
            raise DataError(
                path, expected=f"label, tab and text in line {number}", got=repr(line[:60]), advice=advice
            )
        rows.append((name, text.strip()))
    return make_documents(rows, path)


def read_split(data: Path, dataset: str, stem: str) -> tuple[Documents, Documents]:
    """What to learn from and what to judge by, of a collection with an official split.

    data: folder of the datasets; dataset: its name there; stem: of its files, e.g. `20newsgroups`.

    Raises:
        DataError: a file is not as published, or the two parts have other labels.
    """
    train, test = (read_table(data / dataset / FOLDER / f"{stem}-{part}.tab") for part in ("train", "test"))
    if train.names != test.names:
        raise DataError(
            data / dataset,
            expected=f"the same labels in both parts, {', '.join(train.names)}",
            got=", ".join(test.names),
            advice=f"run `sensorium data pull {dataset}` again",
        )
    return train, test


def set_aside(labels: NDArray[np.int64], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what stays and of what is set aside for tuning: the last `share` of each label's items.

    Where a collection lies in the order of its dates, that is nearer to what comes after it than a random part is.
    At least one of each label stays.
    """
    aside = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(round(share * len(places)), len(places) - 1)
        aside[places[len(places) - count :]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)
