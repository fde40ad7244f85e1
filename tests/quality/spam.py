"""Spam and ham by the text of e-mails: a fifth held out for each seed, copies on one side, beside baselines on the same
split; and the shift from what was collected first to what was collected later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.nlp.training import train_spam
from services.nlp.training.card_ngrams import measure_baselines
from services.nlp.training.data.mail import read_mails
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds
from tests.quality.topics import BASELINES

_LONGEST_S = 600.0
_SHIFT = train_spam.COLLECTION


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy, spam missed and ham lost over the splits; against each baseline, pooled over them; the shift."""
    runs = [place.seed_run("spam", seed, train_spam.run_once) for seed in seeds]
    answers = [run["answers"]["test"] for run in runs]
    truth, best = (np.concatenate([np.asarray(one[key]) for one in answers]) for key in ("labels", "best"))
    how = "SpamAssassin's corpus, a fifth held out, another for each seed"
    each = len(truth) // len(runs)
    accuracy = [run["accuracy"]["test"] for run in runs]
    yield from rows_of_seeds("spam/accuracy", accuracy, "accuracy", how, items=each)
    ham, spam = truth == 0, truth == 1
    yield rate(
        "spam/ham_lost", wilson(int((best[ham] == 1).sum()), int(ham.sum())), "share of ham", f"{how}, pooled"
    )
    yield rate(
        "spam/spam_missed",
        wilson(int((best[spam] == 0).sum()), int(spam.sum())),
        "share of spam",
        f"{how}, pooled",
    )
    beside = [
        place.once(
            "spam", f"baselines-{seed}", lambda _folder, seed=seed: run_baselines(place.data, str(seed))
        )
        for seed in seeds
    ]
    # An e-mail may be held out by several seeds: those of one key are drawn together.
    keys = np.concatenate([one["items"] for one in beside])
    for name in BASELINES:
        theirs = np.concatenate([np.asarray(one[name]) for one in beside]) == truth
        yield rate(f"spam/{name}", wilson(int(theirs.sum()), len(truth)), "accuracy", f"{how}, pooled")
        yield against(
            f"spam/against/{name}", compare(best == truth, theirs, clusters=keys), f"{how}, pooled by e-mail"
        )
    worst = max(run["calibration_error"]["test"] for run in runs)
    yield exact("spam/calibration_error", worst, "ECE", f"{how}, the worst seed")
    yield from _measure_shift(place)
    slowest = max(run["duration_s"] for run in runs)
    yield exact("spam/duration", slowest, "s", "the slowest run's epochs", at_most=_LONGEST_S)


def _measure_shift(place: Place) -> Iterator[Row]:
    run = place.once(
        "spam", "collection", lambda folder: train_spam.run_once(0, place.data, folder, split=_SHIFT)
    )
    answers = run["answers"]["test"]
    right = np.asarray(answers["labels"]) == np.asarray(answers["best"])
    groups = np.asarray(run["groups"])
    for group in np.unique(groups):
        inside = right[groups == group]
        how = "learned from easy-ham-1 and spam-1, judged by what was collected otherwise or later; no bar"
        yield rate(f"spam/shift/{group}", wilson(int(inside.sum()), len(inside)), "accuracy", how)
    theirs = place.once("spam", "baselines-collection", lambda _folder: run_baselines(place.data, _SHIFT))
    truth = np.asarray(answers["labels"])
    for name in BASELINES:
        beside = np.asarray(theirs[name]) == truth
        yield against(f"spam/shift/against/{name}", compare(right, beside), "the shift", at_least=None)


def run_baselines(data: Path, split: str) -> dict[str, Any]:
    """The baselines' answers on what a split holds out, and which e-mails those are."""
    mails = read_mails(data)
    train, test = train_spam.divide(mails, split)
    answered = measure_baselines(mails.documents.take(train), mails.documents.take(test))
    found: dict[str, Any] = {
        name: one.answers.tolist() for name, one in zip(BASELINES, answered, strict=True)
    }
    return found | {"items": test.tolist()}
