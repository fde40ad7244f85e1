r"""Train the classifier that says what a piece of financial news is about: the eight largest classes of Reuters-21578.

    sensorium data pull reuters
    # official split, 20,000 words and pairs of words
    .venv-training/bin/python -m services.nlp.training.train_reuters
    .venv-training/bin/python -m services.nlp.training.train_reuters --hidden 64 --loss entropy --decay 0 \
        --learning-rate 5e-3
    .venv-training/bin/python -m services.nlp.training.train_reuters --limit 600 --epochs 2 --out /tmp/quick
    # the same curve by two processes
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.nlp.training.train_reuters

Learns twice: from nine tenths, to find the temperature on the last tenth of each class, then from all of the training part;
the test part is looked at once, at the end. Writes to --out: checkpoints and curves of both, the network, its answers and
results.json. `release_ngrams` makes the artifact from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from services.nlp.pipeline.ngrams import NgramRule
from services.nlp.training.data.documents import Documents, read_split
from services.nlp.training.learning import Trained, judge, keep, make_ngram_parser, tune_and_learn
from shared.training.arguments import parse_once
from shared.training.run import Run, launch, start

RECIPE = "reuters"
RULE = NgramRule(word_orders=(1, 2))


def load_data(run: Run) -> tuple[Documents, Documents]:
    """The official parts: to learn from, and to judge by."""
    run.dataset("reuters")
    train, test = read_split(run.arguments.data, "reuters", "reuters-r8")
    return train.limit(run.arguments.limit), test.limit(run.arguments.limit)


def train(run: Run) -> Trained:
    """The whole training, with the test part answered."""
    part, test = load_data(run)
    learned, tuning = tune_and_learn(run, RULE, part)
    return judge(run, learned, tuning, part, {"test": test})


def main(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the arguments say; returns what results.json holds."""
    with start(arguments, RECIPE) as run:
        return keep(run, train(run))


def run_once(seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None) -> dict[str, Any]:
    """One seed's training, for measurements: what `main` returns."""
    return main(parse_once(get_args_parser(), seed, data_dir, out_dir, limit=limit))


def get_args_parser() -> argparse.ArgumentParser:
    """The options, with this recipe's defaults."""
    return make_ngram_parser(__doc__, epochs=8, batch_size=64, learning_rate=0.02, ngrams=20_000, decay=3e-4)


if __name__ == "__main__":
    launch(main, get_args_parser())
