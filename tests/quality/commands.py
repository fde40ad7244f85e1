"""Spoken digits and letters of voices never heard in training, by voice, beside baselines that learned from the same.

Every seed trains two networks, each without half of the recorded voices, and judges every voice by the one that never heard
it; voices that are in no training are judged by the first. Right is the command, in whichever language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.speech.training import train_commands
from services.speech.training.card_commands import answer_baselines, gather
from services.speech.training.model.networks import SoundClassifier
from services.speech.training.train_commands import FOLDS, LENGTH, Trained, is_digit, is_right, load_data
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from shared.training.fit import Fitted
from shared.training.run import start
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds

_LEAST = 0.8
# A default recipe trains in ten minutes on two cores.
_LONGEST_S = 600.0
_HOW = "recordings of voices that the network never heard; the command is right, whichever language it is taken for"


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Digits pooled and by voice, letters pooled and by voice, digits against each baseline, seconds of a training."""
    runs = [place.seed_run("commands", seed, train_commands.run_once) for seed in seeds]
    for kind in ("digits", "letters"):
        own = [[row for row in run["rows"] if is_digit(row["label"]) is (kind == "digits")] for run in runs]
        count = len(own[0])
        yield from rows_of_seeds(
            f"commands/{kind}",
            [_share(rows) for rows in own],
            "accuracy",
            f"{_HOW}; {count} of {len(_voices(own[0]))} voices and languages, all pooled",
            items=count,
            at_least=_LEAST if kind == "digits" else None,
        )
        yield from rows_of_seeds(
            f"commands/{kind}/language_said",
            [_share(rows, "answer_in_language") for rows in own],
            "accuracy",
            "the same, of callers who say the language: labels of other languages cannot be answers",
            items=count,
            at_least=_LEAST if kind == "digits" else None,
        )
        for voice in _voices(own[0]):
            shares = [[row for row in rows if _voice(row) == voice] for rows in own]
            # Seeds say the same clips: the interval is of the clips, at the mean over the seeds.
            mean = float(np.mean([_share(rows) for rows in shares]))
            items = len(shares[0])
            listed = ", ".join(f"{_share(rows):.2f}" for rows in shares)
            yield rate(
                f"commands/{kind}/{voice}",
                wilson(round(mean * items), items),
                "accuracy",
                f"{items} recordings, {len(runs)} seeds: {listed}; Wilson's interval at their rounded mean",
            )
    beside = place.once("commands", "baselines", lambda folder: _run_baselines(place.data, folder))
    digits = [row for row in runs[0]["rows"] if is_digit(row["label"])]
    order = {name: at for at, name in enumerate(beside["clips"])}
    ours = np.zeros(len(order), bool)
    for row in digits:
        ours[order[_name(row)]] = is_right(row)
    for name, right in beside["correct"].items():
        correct = np.array(right, bool)
        how = f"{_HOW}; learned from the same recordings and from 4,000 clips of the same synthesised voices"
        yield rate(f"commands/{name}", wilson(int(correct.sum()), len(correct)), "accuracy", how)
        clusters = np.array([clip.split("/")[0] for clip in beside["clips"]])
        yield against(
            f"commands/against/{name}",
            compare(ours, correct, clusters=clusters),
            f"{how}; seed {runs[0]['seed']}",
        )
    slowest = max(run["duration_s"] for run in runs)
    yield exact("commands/duration", slowest, "s", "the slowest network's epochs", at_most=_LONGEST_S)


def _voice(row: Mapping[str, Any]) -> str:
    return f"{row['voice']}-{row['label'].partition(':')[0]}"


def _voices(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({_voice(row) for row in rows})


def _share(rows: Sequence[dict[str, Any]], key: str = "answer") -> float:
    return float(np.mean([is_right(row, key) for row in rows]))


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['voice']}/{row['source']}/{row['name']}"


def _run_baselines(data: Path, folder: Path) -> dict[str, Any]:
    """Baselines need no network but its log-mel front, which does not learn."""
    untrained = []
    for at, voices in enumerate((*FOLDS[2], ())):
        argv = ["--data", str(data), "--out", str(folder / f"{at}"), "--leave-out", ",".join(voices)]
        with start(train_commands.get_args_parser().parse_args(argv), train_commands.RECIPE) as run:
            loaded = load_data(run)
        network = SoundClassifier("gru", len(loaded.labels), LENGTH, width=2)
        logits = np.zeros((len(loaded.test), len(loaded.labels)), np.float32)
        untrained.append(Trained(network, loaded, Fitted(0, {}, [], False, 0), logits))
    *folds, final = untrained
    clips = gather(folds, final).digits.clips
    names = ("majority", "logistic_regression", "nearest_neighbour")
    found = answer_baselines(folds, final)
    return {
        "clips": [f"{clip.voice}/{clip.source}/{clip.name}" for clip in clips],
        "correct": {name: right.tolist() for name, right in zip(names, found.values(), strict=True)},
    }
