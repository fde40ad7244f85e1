"""Train the classifier that tells spam from ham, on the text of e-mails (subject and body).

    sensorium data pull spam-assassin
    # a fifth is held out, copies of one e-mail on one side
    .venv-training/bin/python -m services.nlp.training.train_spam
    # another fifth
    .venv-training/bin/python -m services.nlp.training.train_spam --split 3 --seed 3
    # learn from what was collected first, judge by the rest
    .venv-training/bin/python -m services.nlp.training.train_spam --split collection
    .venv-training/bin/python -m services.nlp.training.train_spam --limit 600 --epochs 2 --out /tmp/quick

Reads words and short runs of characters, signs and digits included. Learns twice: from a part of the training e-mails, to
find the temperature on the rest of them, then from all. Writes to --out: checkpoints and curves of both, the network, its
answers and results.json. `release_ngrams` makes the artifact from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.pipeline.ngrams import NgramRule
from services.nlp.training.data.documents import Documents
from services.nlp.training.data.mail import Mails, read_mails, split_mails
from services.nlp.training.learning import Trained, judge, keep, make_ngram_parser, tune_and_learn
from shared.training.arguments import parse_once, parse_whole
from shared.training.run import Run, launch, start

RECIPE = "spam"
RULE = NgramRule(
    word_orders=(1,),
    character_orders=(2, 3, 4),
    keep=("letters", "digits", "signs"),
    max_characters=8_000,
)
COLLECTION = "collection"  # the split by when an e-mail was collected
TUNING_SPLIT = 1_000_000  # of the training part; no split that is asked for has this number


def load_data(run: Run) -> tuple[Mails, Mails]:
    """What to learn from, and what to judge by."""
    run.dataset("spam-assassin")
    mails = read_mails(run.arguments.data, run.arguments.limit)
    train, test = divide(mails, run.arguments.split)
    return mails.take(train), mails.take(test)


def divide(mails: Mails, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the two parts."""
    if split != COLLECTION:
        return split_mails(mails, int(split))
    # The hard ham was collected with the first; without it among what is learned from, it shows what is missed.
    first = np.isin(mails.groups, ["easy-ham-1", "spam-1"])
    return np.flatnonzero(first), np.flatnonzero(~first)


def train(run: Run) -> Trained:
    """The whole training, with the part held out answered."""
    part, test = load_data(run)

    def set_aside(_: Documents, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return split_mails(part, TUNING_SPLIT, share)

    learned, tuning = tune_and_learn(run, RULE, part.documents, set_aside)
    tests = {"test": test.documents}
    return judge(run, learned, tuning, part.documents, tests, groups=test.groups.tolist())


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say; returns what results.json holds."""
    with start(arguments, RECIPE) as run:
        return keep(run, train(run))


def run_once(
    seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None, split: str | None = None
) -> dict[str, Any]:
    """One seed's training and split, for measurements: what `main` returns."""
    own = "--split", split or str(seed)
    return main(parse_once(get_args_parser(), seed, data_dir, out_dir, *own, limit=limit))


def parse_split(text: str) -> str:
    """A whole number, or `collection`."""
    return text if text == COLLECTION else str(parse_whole(text))


def get_args_parser() -> argparse.ArgumentParser:
    """The options, with this recipe's defaults."""
    parser = make_ngram_parser(
        __doc__, epochs=6, batch_size=64, learning_rate=0.02, ngrams=40_000, decay=1e-4, validation=0.15
    )
    parser.add_argument(
        "--split",
        type=parse_split,
        default="0",
        metavar="N",
        help=f"which fifth is held out, or `{COLLECTION}`",
    )
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
