r"""Trains a small network from scratch on pictures of any kind: CIFAR-10, digits and what has their format, any folder.

    .venv-training/bin/python -m services.vision.training.train_images --pictures cifar-10-batches-bin --network residual \
        --blocks 3
    .venv-training/bin/python -m services.vision.training.train_images --pictures my-photos --side 64
    # the digits of `sensorium data pull mnist`
    .venv-training/bin/python -m services.vision.training.train_images --no-flip
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.vision.training.train_images --pictures …

With fewer than some thousand pictures `finetune_images` does far better. A run leaves in --out: checkpoints, curves,
`result.json`, `answers.npz` and the folder `artifact/NAME/1`, which ClassifyImage serves once it is promoted:

    sensorium models promote vision/NAME OUT/artifact/NAME/1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.vision.training.answering import answer, measure
from services.vision.training.held_out import find_temperature, say_accuracy, say_next
from services.vision.training.model.cnn import Cnn
from services.vision.training.model.residual import ResidualCnn
from services.vision.training.picture_set import (
    PictureSets,
    add_arguments,
    describe,
    describe_making,
    learn,
    read_sets,
)
from services.vision.training.release_images import release_images
from shared.inference.manifest import Made
from shared.training.arguments import make_parser, parse_count, parse_once
from shared.training.distributed import wrap
from shared.training.export import fold_temperature
from shared.training.fit import Fitted, fit
from shared.training.layout import channels_last
from shared.training.run import Run, launch, start
from shared.training.schedule import cosine

MODULE = "services.vision.training.train_images"
RECIPE = "images"
# 0..255 to about -2..2: what batch normalisation behind the first convolution makes of any scale.
MEAN, STD = 127.5, 63.75


@dataclass(frozen=True)
class Trained:
    """A network whose logits are calibrated, what it was trained on, and its logits for what was held out."""

    network: nn.Module
    sets: PictureSets
    logits: NDArray[np.float32]
    fitted: Fitted
    result: dict[str, object]


def load_data(run: Run) -> PictureSets:
    """Reads and divides the pictures."""
    folder = run.arguments.pictures
    return read_sets(run, run.dataset("mnist") if folder is None else folder, mean=MEAN, std=STD)


def make_network(arguments: argparse.Namespace, classes: int) -> nn.Module:
    """The network that the arguments ask for."""
    if arguments.network == "residual":
        return ResidualCnn(3, classes, width=arguments.width, blocks=arguments.blocks)
    return Cnn(3, classes, width=arguments.width)


def train_one_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, sets: PictureSets, epoch: int
) -> dict[str, float]:
    """One pass over what is learnt from."""
    model.train()
    return learn(run, model, optimizer, sets, epoch)


def evaluate(run: Run, model: nn.Module, sets: PictureSets) -> dict[str, float]:
    """Loss and accuracy on what is tuned on."""
    return measure(answer(run, model, sets.valid.images, sets.normalize), sets.valid.labels)


def main(arguments: argparse.Namespace) -> Trained:
    """Trains and keeps the result; returns it."""
    with start(arguments, RECIPE) as run:
        sets = load_data(run)
        model = channels_last(wrap(make_network(arguments, len(sets.classes)), run), run)
        run.say(f"{sum(parameter.numel() for parameter in model.parameters()):,} weights")
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay
        )
        fitted = fit(
            run,
            model,
            optimizer,
            train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, sets, epoch),
            evaluate=lambda: evaluate(run, model, sets),
            epochs=arguments.epochs,
            patience=arguments.patience,
            metric="loss",
            better="lower",
            schedule=cosine(warmup=0.1),
            data_digest=sets.sha256,
        )
        return finish(run, model, sets, fitted, describe_making(MODULE, get_args_parser(), run, sets))


def finish(run: Run, model: nn.Module, sets: PictureSets, fitted: Fitted, made: Made) -> Trained:
    """Calibrates the network, answers what was held out and keeps the result."""
    valid = answer(run, model, sets.valid.images, sets.normalize)
    temperature = find_temperature(run, valid, sets.valid.labels.numpy())
    fold_temperature(model.head, temperature)
    logits = answer(run, model, sets.held_out.images, sets.normalize)
    result = describe(run, sets, logits, {"temperature": temperature, "duration_s": fitted.duration_s})
    if run.is_main:
        (run.out / "result.json").write_text(json.dumps(result) + "\n")
        np.savez_compressed(run.out / "answers.npz", logits=logits, labels=sets.held_out.labels.numpy())
        artifact = release_images(run, model, sets, logits, fitted, temperature=temperature, made=made)
        right = int((logits.argmax(axis=1) == sets.held_out.labels.numpy()).sum())
        say_accuracy(run, right, len(logits), f", {fitted.duration_s:.0f} s")
        say_next(run, f"vision/{artifact.name}", artifact.folder)
    return Trained(model, sets, logits, fitted, result)


def run_once(
    seed: int, data_dir: Path, out_dir: Path, *, pictures: Path | None = None, options: Sequence[str] = ()
) -> dict[str, object]:
    """One run as `make quality` asks for it; returns what `result.json` holds."""
    own = ["--no-keep-held-out", *options, *(() if pictures is None else ("--pictures", str(pictures)))]
    return main(parse_once(get_args_parser(), seed, data_dir, out_dir, *own)).result


def get_args_parser() -> argparse.ArgumentParser:
    """The shared options, those of pictures, and this recipe's."""
    parser = make_parser(__doc__, epochs=20, batch_size=64, learning_rate=4e-3, weight_decay=0.02)
    add_arguments(parser, pictures="the digits of `sensorium data pull mnist`", side=32)
    group = parser.add_argument_group("network")
    group.add_argument("--network", choices=("cnn", "residual"), default="cnn", help="plain or residual")
    group.add_argument("--width", type=parse_count, default=16, help="channels of the first stage")
    group.add_argument("--blocks", type=parse_count, default=1, help="of each residual stage")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
