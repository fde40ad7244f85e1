"""Positive or negative: every rung of the ladder beside what needs no network, on films and on domains never learned from.

Each seed divides the film snippets anew, trains on the larger part and is judged on what was held out; Amazon, tweets and
editorials are judged whole. MiniLM comes first: the smaller rungs are what it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.training.data.snippets import FILES, Snippet, read_domain, split
from services.nlp.training.sentiment_card import baselines
from services.nlp.training.sentiment_data import States
from services.nlp.training.train_sentiment import RUNGS, run_once
from shared.training.evaluation.interval import over_seeds
from shared.training.evaluation.paired import compare
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, rate
from tests.quality.rows import seeds as seed_rows

TOPIC = "sentiment"
BEST, RIVAL = "minilm", "TF-IDF (word 1 to 2) + linear SVM"
_BAR = 0.84  # of the best rung on film snippets
_LONGEST_S = 600.0  # a default recipe on two calm cores

Answers = Mapping[str, NDArray[np.bool_]]  # by domain, whether each held-out snippet was answered rightly


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy by rung and domain over the seeds, each baseline beside it, and paired differences from the linear model."""
    order = [BEST, *(name for name in RUNGS if name != BEST)]
    known = {name: _train_all(name, seeds, place) for name in order}
    known |= _ask_baselines(seeds, place)
    for name, runs in known.items():
        for domain in FILES:
            how = "film snippets held out by seed" if domain == "movie" else f"{domain}: never learned from"
            values = [float(run[domain].mean()) for run in runs]
            bar = _BAR if (name, domain) == (BEST, "movie") else None
            items = min(len(run[domain]) for run in runs)
            yield from seed_rows(
                f"{TOPIC}/{domain}/{name}",
                values,
                "accuracy",
                f"{how}, {items} items",
                items=items,
                at_least=bar,
            )
    for name in order:
        for domain in FILES:
            yield _against_rival(name, domain, known[name], known[RIVAL])
    for name in order:
        took = [place.duration_s(TOPIC, f"{name}-seed-{seed}") for seed in seeds]
        how = "whole run: reading, training, judging 10,600 snippets; one thread, as busy as the machine was"
        yield rate(f"{TOPIC}/duration/{name}", over_seeds(took), "s", how, at_most=_LONGEST_S)


def _train_all(name: str, seeds: Sequence[int], place: Place) -> list[Answers]:
    # The published tokenizer and lower layers are the same for all seeds: what they read is kept.
    states: States | None = {} if name == BEST else None
    runs = []
    for seed in seeds:
        result = place.once(
            TOPIC,
            f"{name}-seed-{seed}",
            lambda folder, seed=seed: run_once(seed, place.data, folder, model=name, states=states),
        )
        runs.append({domain: _check(result["answers"][domain]) for domain in FILES})
    return runs


def _check(answers: Mapping[str, Any]) -> NDArray[np.bool_]:
    return np.asarray(np.array(answers["logits"]).argmax(1) == np.array(answers["labels"]))


def _ask_baselines(seeds: Sequence[int], place: Place) -> dict[str, list[Answers]]:
    """The same snippets, by what needs no network."""
    snippets = {domain: read_domain(place.data, domain) for domain in FILES}
    found: dict[str, list[Answers]] = {}
    for seed in seeds:
        parts = split(snippets["movie"], seed)
        tests: dict[str, Sequence[Snippet]] = {**snippets, "movie": parts.test}
        asked = [snippet for domain in FILES for snippet in tests[domain]]
        truth = np.array([snippet.label for snippet in asked])
        ends = np.cumsum([len(tests[domain]) for domain in FILES])[:-1]
        for baseline in baselines(parts.train, asked):
            right = np.split(baseline.correct(truth), ends)
            found.setdefault(baseline.name, []).append(dict(zip(FILES, right, strict=True)))
    return found


def _against_rival(name: str, domain: str, ours: Sequence[Answers], theirs: Sequence[Answers]) -> Row:
    """All seeds' items together; those of other domains come once a seed, so that intervals draw whole snippets."""
    a, b = (np.concatenate([run[domain] for run in runs]) for runs in (ours, theirs))
    clusters = None
    if domain != "movie":
        clusters = np.tile(np.arange(len(ours[0][domain])), len(ours))
    how = f"{domain}, minus {RIVAL} on the same items and training snippets, {len(ours)} seeds together"
    bar = 0.0 if (name, domain) == (BEST, "movie") else None
    return against(
        f"{TOPIC}/{domain}/{name}/against_linear", compare(a, b, clusters=clusters), how, at_least=bar
    )
