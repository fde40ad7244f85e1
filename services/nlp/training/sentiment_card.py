"""The sentiment model's card: what it is worth, where it is worse, and what it is compared with.

Lives here: measuring on held-out snippets and on sentences about people, the card's values. Not here: the words around them
(`shared.training.card`), the graph (`export_sentiment`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.models.sentiment import LABELS
from services.nlp.training.data.snippets import Snippet
from services.nlp.training.data.swaps import (
    Sentence,
    swap_gender,
    write_name_sentences,
    write_people_sentences,
)
from shared.inference.manifest import Made, Metric, Parity
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.card.files import make_files
from shared.training.compression.latency import measure_latency
from shared.training.compression.pareto import Point, choose
from shared.training.evaluation.baseline import Baseline, majority, nearest_text, tfidf_linear
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import calibration_error, measure
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import Slice, by_length, cut

FORM = "int8 weights"  # of the graph that is served
TITLES = {
    "movie": "film reviews (snippets)",
    "amazon": "product reviews (sentences)",
    "tweets": "tweets",
    "nyt": "newspaper editorials (sentences)",
}
_NEGATIONS = re.compile(
    r"\b(?:not?|never|nothing|nobody|none|neither|nor|without|hardly|\w+n't)\b", re.IGNORECASE
)
# Groups of people whose neutral sentences are named in the card, from either end.
_NAMED = 4


@dataclass(frozen=True)
class Judged:
    """A model's answers on what it never saw, and what is needed to compare them."""

    train: Sequence[Snippet]
    tests: Mapping[str, Sequence[Snippet]]  # by domain
    logits: Mapping[str, Mapping[str, NDArray[np.float32]]]  # by form and domain, [items, labels]
    forms: Mapping[str, bytes]
    temperature: float
    uncalibrated: Mapping[str, NDArray[np.float64]]  # by domain
    results: Mapping[str, Any]
    parity: Parity
    ask: Callable[[list[str]], NDArray[np.float32]]  # logits of any texts

    @cached_property
    def snippets(self) -> list[Snippet]:
        """Of all domains, one after the other."""
        return [snippet for found in self.tests.values() for snippet in found]

    def truth(self) -> NDArray[np.int64]:
        """Labels of all held-out snippets."""
        return np.array([snippet.label for snippet in self.snippets])

    def scores(self, form: str = FORM) -> NDArray[np.float64]:
        """What is served for all of them, [items, labels]."""
        return softmax(np.concatenate([self.logits[form][domain] for domain in self.tests]))

    def correct(self, form: str = FORM) -> NDArray[np.bool_]:
        """Whether the answer was right, by item."""
        return self.scores(form).argmax(1) == self.truth()

    @cached_property
    def points(self) -> list[Point]:
        """Quality, time and bytes of each form."""
        ids = np.full((1, 24), 2000, np.int64)  # as long as the median snippet
        taken = measure_latency(self.forms, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        points = []
        for form, content in self.forms.items():
            right = self.correct(form)
            found = wilson(int(right.sum()), len(right))
            points.append(Point(form, found.value, found.low, found.high, taken[form], len(content)))
        return choose(points, reference="fp32")

    @cached_property
    def baselines(self) -> list[Baseline]:
        """Their answers on all held-out snippets."""
        return baselines(self.train, self.snippets)

    def place(self, domain: str) -> slice:
        """Where a domain's snippets stand among all."""
        before = list(self.tests)[: list(self.tests).index(domain)]
        begin = sum(len(self.tests[name]) for name in before)
        return slice(begin, begin + len(self.tests[domain]))

    def domain_metrics(self) -> dict[str, Metric]:
        """Accuracy by domain, as the manifest holds it."""
        found = {}
        for domain, snippets in self.tests.items():
            truth = np.array([snippet.label for snippet in snippets])
            right = self.logits[FORM][domain].argmax(1) == truth
            found[f"accuracy_{domain}"] = wilson(int(right.sum()), len(right)).to_metric()
        return found


def write_card(judged: Judged, made: Made) -> tuple[str, dict[str, bytes]]:
    """The card's text and its pictures by file name."""
    probabilities = softmax(judged.logits[FORM]["movie"])
    truth = np.array([snippet.label for snippet in judged.tests["movie"]])
    arguments = judged.results["arguments"]
    card = Card(
        name="sentiment",
        title=(
            "Whether an English sentence says something good or bad: all-MiniLM-L6-v2, tuned on snippets that people rated. "
            "Snippets rated within ±0.5 of neutral, on a scale from -4 to 4, were left out of training and of every "
            "figure here: the model has no third answer."
        ),
        labels=LABELS,
        tests=[_test(judged, domain) for domain in judged.tests],
        made=made,
        data=[
            "Snippets of film reviews, product reviews, tweets and editorials, each rated by at least 20 people: Hutto and "
            "Gilbert, VADER, ICWSM 2014; in vaderSentiment 3.3.2, MIT as packaged; the texts are their authors'.",
            "all-MiniLM-L6-v2's weights, Apache-2.0; what it learned from has terms of its own, see minilm's card.",
        ],
        license="Apache-2.0",
        limits=_limits(judged),
        calibration=Calibration(
            bins=reliability(truth, probabilities),
            before=calibration_error(truth, softmax(judged.uncalibrated["movie"])),
            after=calibration_error(truth, probabilities),
            temperature=judged.temperature,
        ),
        slices=_slices(judged),
        fairness=_fairness(judged),
        points=judged.points,
        parity=judged.parity,
        training=(
            f"the upper {arguments['tuned']} of 6 layers learned changes of rank {arguments['rank']} (LoRA), and a linear "
            f"layer over the mean of the last vectors; beside it a weight for each word piece, by logistic regression, with "
            f"a share that validation chose; AdamW, a rate of {arguments['learning_rate']:g} that falls "
            f"linearly, {arguments['epochs']} epochs of {len(judged.train):,} snippets of "
            f"{', '.join(arguments['domains'])}, {judged.results['parameters']:,} numbers learned in "
            f"{judged.results['duration_s']:.0f} s on two busy cores. {_tell_targets(arguments['sharpness'])}"
        ),
    )
    return make_files(card)


def baselines(train: Sequence[Snippet], held_out: Sequence[Snippet]) -> list[Baseline]:
    """What needs no network, on the same snippets."""
    texts, truth = [snippet.text for snippet in train], np.array([snippet.label for snippet in train])
    asked = [snippet.text for snippet in held_out]
    return [
        tfidf_linear(texts, truth, asked),
        tfidf_linear(texts, truth, asked, kind="logistic"),
        nearest_text(texts, truth, asked),
        majority(truth, len(asked)),
    ]


def _test(judged: Judged, domain: str) -> Test:
    snippets = judged.tests[domain]
    truth = np.array([snippet.label for snippet in snippets])
    metrics = measure(truth, softmax(judged.logits[FORM][domain]), LABELS)
    rivals = []
    for baseline in judged.baselines:
        right = baseline.correct(judged.truth())[judged.place(domain)]
        rivals.append(
            Rival(baseline.name, wilson(int(right.sum()), len(right)), compare(metrics.correct, right))
        )
    return Test(TITLES[domain], metrics, rivals)


def _slices(judged: Judged) -> dict[str, list[Slice]]:
    correct, snippets = judged.correct(), judged.snippets
    words = [len(snippet.text.split()) for snippet in snippets]
    strength = np.abs([snippet.rating for snippet in snippets])
    denied = np.where([bool(_NEGATIONS.search(snippet.text)) for snippet in snippets], "negation", "none")
    return {
        "length": cut(correct, by_length(words, (5, 10, 20, 30), "words")),
        "strength of the rating": cut(correct, by_length(strength, (1.0, 2.0), "from neutral")),
        "words of negation": cut(correct, denied),
    }


def _fairness(judged: Judged) -> str:
    """Gendered words swapped in real snippets; neutral sentences that differ in a name, or in what somebody is."""
    pairs = [(snippet, other) for snippet in judged.snippets if (other := swap_gender(snippet.text))]
    before = softmax(judged.ask([snippet.text for snippet, _ in pairs]))
    after = softmax(judged.ask([other for _, other in pairs]))
    truth = np.array([snippet.label for snippet, _ in pairs])
    right = (before.argmax(1) == truth, after.argmax(1) == truth)
    against = compare(*right)
    flipped = float((before.argmax(1) != after.argmax(1)).mean())
    names = _by_group(judged, write_name_sentences())
    people = _by_group(judged, write_people_sentences())
    ranked = sorted(people, key=lambda group: people[group])
    return (
        f"in {len(pairs)} held-out snippets with gendered words, swapping them turned {flipped:.1%} of the answers; "
        f"accuracy {right[0].mean():.3f} as written and {right[1].mean():.3f} swapped ({against.verdict}, "
        f"p {against.p_value:.2f}). Mean score of `positive` for sentences without praise or blame, by whose name is in "
        f"them: {_list(names, sorted(names, key=lambda group: names[group]))}; the groups' means lie "
        f"{max(names.values()) - min(names.values()):.2f} apart. By what somebody is said to be, the lowest: "
        f"{_list(people, ranked[:_NAMED])}; the highest: {_list(people, ranked[-_NAMED:])}; "
        f"{max(people.values()) - min(people.values()):.2f} apart. So what a text is about moves the score, though nothing "
        "was said of it: do not rank people, or texts about people, by it."
    )


def _by_group(judged: Judged, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Mean score of `positive` by group."""
    scores = softmax(judged.ask([sentence.text for sentence in sentences]))[:, 1]
    groups = np.array([sentence.group for sentence in sentences])
    return {str(group): float(scores[groups == group].mean()) for group in np.unique(groups)}


def _list(scores: Mapping[str, float], groups: Sequence[str]) -> str:
    return ", ".join(f"{group} {scores[group]:.2f}" for group in groups)


def _limits(judged: Judged) -> list[str]:
    worst = min(judged.tests, key=lambda domain: judged.domain_metrics()[f"accuracy_{domain}"].value)
    return [
        "Two answers only: a text that is neither, or both, still gets one; look at the score. It errs on mild texts most.",
        f"Weakest on {TITLES[worst]}.",
        "English; reads 256 tokens, some 190 words, without case. Trained on single sentences: of a long text it says "
        "something like the mean.",
        "Irony, quoted opinions and comparisons with another thing are often taken at their word.",
        "Ratings are those of some twenty people each, in 2014; new slang and new emoji are not in it.",
    ]


def _tell_targets(sharpness: float) -> str:
    if not sharpness:
        return "Targets were the labels."
    return f"Targets were soft, a logistic of {sharpness:g} times the mean rating: a mild snippet is learned as a mild one."
