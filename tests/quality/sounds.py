"""Speech, music, noise: every voice, piece and recorded sound held out once, beside baselines on the same folds.

Seed n holds out fold n of 5, so five seeds are one training for each fold. Windows of one voice or piece are alike, so the
pooled figure's interval draws whole voices, pieces and sounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from services.speech.training import train_sounds
from services.speech.training.train_sounds import FOLDS, LABELS
from shared.training.evaluation.interval import bootstrap
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact, rate
from tests.quality.rows import seeds as rows_of_seeds

_LEAST = 0.97
# A default recipe trains in ten minutes on two cores.
_LONGEST_S = 600.0


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy by fold and pooled, each kind's share of right windows, whole clips, seconds of a training."""
    runs = [place.seed_run("sounds", seed, train_sounds.run_once) for seed in seeds]
    how = f"windows of 1.5 s of voices, pieces and sounds never heard, one of {FOLDS} folds held out"
    yield from rows_of_seeds(
        "sounds/accuracy", [_share(run["rows"]) for run in runs], "accuracy", how, at_least=_LEAST
    )
    # Of a fold that several seeds held out, the first counts.
    rows = [row for run in {run["fold"]: run for run in reversed(runs)}.values() for row in run["rows"]]
    how = f"{sum(row['windows'] for row in rows)} windows of {len(rows)} clips, each held out once"
    yield _pooled("sounds/pooled", rows, how, at_least=_LEAST)
    for label in LABELS:
        own = [row for row in rows if row["label"] == label]
        yield _pooled(f"sounds/{label}", own, f"the {label} among them, {len(own)} clips")
    recorded = [row for row in rows if row["source"] != "synthesised"]
    yield _pooled("sounds/recorded", recorded, "recordings only, without the noises that are made")
    clips = [{**row, "windows": 1, "right_windows": int(row["answer"] == row["label"])} for row in rows]
    yield _pooled("sounds/clips", clips, "whole clips, the mean of their windows' scores")
    slowest = max(run["duration_s"] for run in runs)
    yield exact("sounds/duration", slowest, "s", "the slowest training's epochs", at_most=_LONGEST_S)


def _share(rows: Sequence[dict[str, Any]]) -> float:
    return sum(row["right_windows"] for row in rows) / sum(row["windows"] for row in rows)


def _pooled(name: str, rows: Sequence[dict[str, Any]], how: str, *, at_least: float | None = None) -> Row:
    clusters = np.array([f"{row['label']} {row['voice']}" for row in rows])
    interval = bootstrap(
        lambda drawn: _share([rows[at] for at in drawn]), len(rows), clusters=clusters, rounds=500
    )
    return rate(
        name, interval, "accuracy", f"{how}; interval over whole voices, pieces and sounds", at_least=at_least
    )
