"""Words out of counts of letters: which words a small corpus has, what is drawn from it, and what is damaged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import brotli
import numpy as np
import pytest

from services.nlp.training.data import everyday, lingua
from shared.training.errors import DataError

# Of every length around those that are treated apart; words inside of words, runs that overlap themselves.
CORPUS = {
    "a": 5,
    "da": 7,
    "das": 3,
    "dass": 2,
    "dasselbe": 4,
    "haus": 6,
    "anna": 1,
    "aaa": 2,
    "aaaa": 3,
    "öl": 8,
}


def write_counts(folder: Path, corpus: Mapping[str, int]) -> None:
    """A language's files as the package writes them."""
    folder.mkdir(parents=True)
    shorter: Counter[str] = Counter()
    for length, file in enumerate(lingua.FILES, start=1):
        counts: Counter[str] = Counter()
        for word, times in corpus.items():
            for begin in range(len(word) - length + 1):
                counts[word[begin : begin + length]] += times
        listed: dict[str, list[str]] = {}
        for run, count in counts.items():
            share = Fraction(count, counts.total() if length == 1 else shorter[run[:-1]])
            listed.setdefault(f"{share.numerator}/{share.denominator}", []).append(run)
        write_file(folder / file, {share: " ".join(runs) for share, runs in listed.items()})
        shorter = counts


def write_file(path: Path, ngrams: object) -> None:
    path.write_bytes(brotli.compress(json.dumps({"language": "GERMAN", "ngrams": ngrams}).encode()))


def read_file(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(brotli.decompress(path.read_bytes()))["ngrams"]
    return found


def draw(folder: Path, count: int, seed: int = 0) -> dict[str, float]:
    words = lingua.draw_words(lingua.read_chain(folder), count, np.random.default_rng(seed))
    return dict(zip(words.words, words.shares.tolist(), strict=True))


def test_beginnings_of_words_are_found_exactly(tmp_path: Path) -> None:
    write_counts(tmp_path / "de", CORPUS)
    chain = lingua.read_chain(tmp_path / "de")
    expected: Counter[str] = Counter()
    for word, times in CORPUS.items():
        expected[word[:4]] += times
    found = dict(zip(chain.starts, chain.shares.tolist(), strict=True))
    assert found == pytest.approx({start: times / expected.total() for start, times in expected.items()})


def test_words_are_drawn_as_often_as_they_were_counted(tmp_path: Path) -> None:
    write_counts(tmp_path / "de", CORPUS)
    found = draw(tmp_path / "de", 50_000)
    total = sum(CORPUS.values())
    assert found == pytest.approx({word: times / total for word, times in CORPUS.items()}, abs=0.01)
    assert found == draw(tmp_path / "de", 50_000)
    assert found != draw(tmp_path / "de", 50_000, seed=1)


def test_words_with_four_letters_in_common_make_others(tmp_path: Path) -> None:
    write_counts(tmp_path / "en", {"tomorrow": 1, "borrowed": 1})
    found = draw(tmp_path / "en", 20_000)
    assert found == pytest.approx(
        dict.fromkeys(["tomorrow", "tomorrowed", "borrow", "borrowed"], 0.25), abs=0.02
    )


def test_a_word_that_does_not_end_is_left_out(tmp_path: Path) -> None:
    write_counts(tmp_path / "xx", {"ab" * 20: 1})
    found = draw(tmp_path / "xx", 5000)
    assert set(found) == {("ab" * 20)[:length] for length in range(4, lingua.LONGEST + 1, 2)}
    assert sum(found.values()) == pytest.approx(1)


def test_languages_without_words_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / lingua.FOLDER
    for language in ("de", "kk", "en"):
        write_counts(folder / language, CORPUS)
    assert set(lingua.read_words(tmp_path, ["de", "kk", "xx"])) == {"de"}


def test_what_no_counts_of_letters_are_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"counts of letters.*sensorium data pull lingua"):
        lingua.read_words(tmp_path, ["de"])
    folder = tmp_path / lingua.FOLDER / "de"
    write_counts(folder, CORPUS)
    for file in lingua.FILES:
        path = folder / file
        whole = path.read_bytes()
        for content in (b"", b"no brotli", whole[:-3], brotli.compress(b"{"), brotli.compress(b"[1]")):
            path.write_bytes(content)
            with pytest.raises(DataError, match=file):
                lingua.read_chain(folder)
        for ngrams in ({}, {"1/2": 3}, {"1": "a"}, {"1/0": "a"}, {"a/b": "a"}, {"1/2": "abcdef"}, ["a"]):
            write_file(path, ngrams)
            with pytest.raises(DataError, match=file):
                lingua.read_chain(folder)
        path.write_bytes(whole)
    (folder / lingua.FILES[2]).unlink()
    with pytest.raises(DataError, match=lingua.FILES[2]):
        lingua.read_chain(folder)


@pytest.mark.parametrize(
    ("run", "said"), [("aaxa", "letters of the shortest runs"), ("döla", "beginning is counted")]
)
def test_runs_that_do_not_fit_the_shorter_ones_are_told(tmp_path: Path, run: str, said: str) -> None:
    write_counts(tmp_path / "de", CORPUS)
    path = tmp_path / "de" / lingua.FILES[3]
    write_file(path, read_file(path) | {"1/99": run})
    with pytest.raises(DataError, match=said):
        lingua.read_chain(tmp_path / "de")


def test_published_counts_give_words_of_the_language(datasets: Path) -> None:
    found = lingua.read_words(datasets, ["de", "sr", "ja"])
    assert set(found) == {"de", "sr"}
    german = dict(zip(found["de"].words, found["de"].shares.tolist(), strict=True))
    assert sum(german.values()) == pytest.approx(1)
    often = sorted(german, key=german.__getitem__)[::-1]
    assert often[:3] == ["die", "der", "und"]
    assert {"nicht", "auch", "werden", "einen"} <= set(often[:300])
    # By weight most are words that others have counted too.
    counted = set(everyday.read_words(datasets)["de"].words)
    assert sum(share for word, share in german.items() if word in counted) > 0.7
