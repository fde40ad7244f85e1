"""20 Newsgroups and Reuters-R8 on their official splits, each beside baselines that learn from the same texts.

The split is fixed, so seeds differ in the order of what is learned only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.nlp.training import train_reuters, train_topics
from services.nlp.training.card_ngrams import measure_baselines
from services.nlp.training.data.documents import read_split
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds

# A default recipe trains in ten minutes on two cores.
_LONGEST_S = 600.0
# Recipe, its files, what a linear SVM of words reaches by the data's description.
_COLLECTIONS = (
    ("newsgroups", train_topics, "newsgroups", "20newsgroups", 0.851),
    ("reuters", train_reuters, "reuters", "reuters-r8", 0.974),
)
# "Not worse" needs a margin where two models are equally good: no interval of 2,189 texts would lie above 0 then.
_MARGIN = {"newsgroups": 0.0, "reuters": -0.01}
BASELINES = ("majority", "nearest_neighbour", "svm_words", "svm_pairs")


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy over the seeds, and the first seed's answers against each baseline's by McNemar's exact test."""
    for name, recipe, dataset, stem, least in _COLLECTIONS:
        # One folder a collection: runs/quality/topics-<name>.
        runs = [place.seed_run(f"topics-{name}", seed, recipe.run_once) for seed in seeds]
        answers = [run["answers"]["test"] for run in runs]
        truth = np.asarray(answers[0]["labels"])
        how = f"{stem}, official split, {len(truth)} texts held out"
        yield from rows_of_seeds(
            f"topics/{name}/accuracy",
            [run["accuracy"]["test"] for run in runs],
            "accuracy",
            how,
            items=len(truth),
            at_least=least,
        )
        yield from _compare(name, place, dataset, stem, truth, answers, how)
        yield rate_error(name, runs, how)
        slowest = max(run["duration_s"] for run in runs)
        yield exact(f"topics/{name}/duration", slowest, "s", "the slowest run's epochs", at_most=_LONGEST_S)


def rate_error(name: str, runs: Sequence[dict[str, Any]], how: str) -> Row:
    """Calibration error, the worst of the seeds; a figure without a bar."""
    worst = max(run["calibration_error"]["test"] for run in runs)
    return exact(f"topics/{name}/calibration_error", worst, "ECE", f"{how}, the worst seed")


def _compare(
    name: str,
    place: Place,
    dataset: str,
    stem: str,
    truth: np.ndarray,
    answers: Sequence[dict[str, Any]],
    how: str,
) -> Iterator[Row]:
    beside = place.once(
        f"topics-{name}", "baselines", lambda _folder: run_baselines(place.data, dataset, stem)
    )
    right = np.asarray(answers[0]["best"]) == truth
    for baseline in BASELINES:
        theirs = np.asarray(beside[baseline]) == truth
        yield rate(f"topics/{name}/{baseline}", wilson(int(theirs.sum()), len(truth)), "accuracy", how)
        yield against(
            f"topics/{name}/against/{baseline}",
            compare(right, theirs),
            f"{how}, seed 0",
            at_least=_MARGIN[name],
        )


def run_baselines(data: Path, dataset: str, stem: str) -> dict[str, list[int]]:
    """The baselines' answers on an official split's test part."""
    train, test = read_split(data, dataset, stem)
    answered = measure_baselines(train, test)
    return {name: one.answers.tolist() for name, one in zip(BASELINES, answered, strict=True)}
