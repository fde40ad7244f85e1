"""Languages: held-out messages of the training source and another text of another package, beside fastText on both.

Labels are merged where one of the two models tells apart what the other does not; languages that fastText does not know are
left out of the comparison, and counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.training import train_language
from services.nlp.training.data.documents import Documents
from services.nlp.training.lid import Lid, merge
from shared.training.evaluation.baseline import tfidf_linear
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import by_length
from shared.training.run import start
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds

_LONGEST_S = 600.0
_LEAST_LANGUAGES = 30
_BOUNDS = (10, 20, 50, 100)  # characters of a message


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy on each test over the splits; against fastText by test, by length and by language; a linear SVM beside."""
    runs = [place.seed_run("language", seed, train_language.run_once) for seed in seeds]
    names = runs[0]["names"]
    yield exact("language/languages", len(names), "languages", ", ".join(names), at_least=_LEAST_LANGUAGES)
    for test in runs[0]["accuracy"]:
        items = len(runs[0]["answers"][test]["labels"])
        values = [run["accuracy"][test] for run in runs]
        yield from rows_of_seeds(
            f"language/{test}/accuracy", values, "accuracy", f"{items} texts", items=items
        )
    lid = place.once("language", "lid", lambda folder: _ask_lid(place, folder))
    yield from _compare_lid(runs[0], lid)
    yield from _compare_svm(runs[0], place)
    for test in runs[0]["accuracy"]:
        worst = max(run["calibration_error"][test] for run in runs)
        yield exact(f"language/{test}/calibration_error", worst, "ECE", "the worst seed")
    slowest = max(run["duration_s"] for run in runs)
    yield exact("language/duration", slowest, "s", "the slowest run's epochs", at_most=_LONGEST_S)


def _load(place: Place, folder: Any, split: int = 0) -> train_language.Corpus:
    argv = ["--data", str(place.data), "--out", str(folder), "--split", str(split), "--seed", str(split)]
    arguments: argparse.Namespace = train_language.get_args_parser().parse_args(argv)
    with start(arguments, "language-data") as run:
        return train_language.load_data(run)


def _ask_lid(place: Place, folder: Any) -> dict[str, Any]:
    lid, corpus = Lid(place.data), _load(place, folder)
    return {
        "languages": sorted(lid.languages),
        "answers": {name: lid.answer(test.texts).tolist() for name, test in corpus.tests.items()},
        "lengths": {name: [len(text) for text in test.texts] for name, test in corpus.tests.items()},
    }


def _compare_lid(run: dict[str, Any], lid: dict[str, Any]) -> Iterator[Row]:
    names = np.array([merge(name) for name in run["names"]])
    for test, answers in run["answers"].items():
        truth = names[np.asarray(answers["labels"])]
        ours = names[np.asarray(answers["best"])] == truth
        theirs = np.asarray(lid["answers"][test]) == truth
        known = np.isin(truth, lid["languages"])
        how = f"{known.sum()} of {len(known)} texts, of languages that fastText knows; seed 0"
        yield rate(f"language/{test}/fasttext", _share(theirs[known]), "accuracy", f"lid.176.ftz, {how}")
        yield against(f"language/{test}/against/fasttext", compare(ours[known], theirs[known]), how)
        if test == "messages":
            lengths = by_length(lid["lengths"][test], _BOUNDS, "characters")
            yield from _cut(f"language/{test}/length", ours[known], theirs[known], lengths[known], how)
        if test in ("messages", "declarations-50"):
            yield from _cut(f"language/{test}/language", ours[known], theirs[known], truth[known], how)


def _cut(
    name: str, ours: NDArray[np.bool_], theirs: NDArray[np.bool_], keys: NDArray[Any], how: str
) -> Iterator[Row]:
    """By part: ours with its interval, fastText's in the text; figures without a bar."""
    for key in np.unique(keys):
        inside = keys == key
        said = f"fastText {theirs[inside].mean():.3f}; {how}"
        yield rate(f"{name}/{str(key).replace(' ', '_')}", _share(ours[inside]), "accuracy", said)


def _compare_svm(run: dict[str, Any], place: Place) -> Iterator[Row]:
    """A linear SVM of scikit-learn on runs of characters, learned from the same messages."""
    theirs = place.once("language", "svm", lambda folder: _run_svm(_load(place, folder)))
    for test, answers in run["answers"].items():
        truth = np.asarray(answers["labels"])
        right = np.asarray(theirs[test]) == truth
        how = "TF-IDF of 1 to 3 characters inside words, linear SVM of scikit-learn; seed 0"
        yield rate(f"language/{test}/svm", _share(right), "accuracy", how)
        yield against(
            f"language/{test}/against/svm", compare(np.asarray(answers["best"]) == truth, right), how
        )


def _run_svm(corpus: train_language.Corpus) -> dict[str, list[int]]:
    texts: list[str] = [text for test in corpus.tests.values() for text in test.texts]
    train: Documents = corpus.train
    found = tfidf_linear(
        train.texts, train.labels, texts, analyzer="char_wb", grams=(1, 3), strength=1.0, min_items=2
    ).answers
    bounds = np.cumsum([len(test) for test in corpus.tests.values()])[:-1]
    return {name: part.tolist() for name, part in zip(corpus.tests, np.split(found, bounds), strict=True)}


def _share(right: NDArray[np.bool_]) -> Any:
    return wilson(int(right.sum()), len(right))
