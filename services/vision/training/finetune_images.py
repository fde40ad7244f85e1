"""Teaches the pretrained backbone (EfficientNet-Lite0) the classes of any folder of pictures; some dozen of each are enough.

    sensorium data pull efficientnet emoji
    # emoji by artists never seen
    .venv-training/bin/python -m services.vision.training.finetune_images
    .venv-training/bin/python -m services.vision.training.finetune_images --pictures my-photos --side 224
    # transfer only
    .venv-training/bin/python -m services.vision.training.finetune_images --pictures my-photos --epochs 4 --frozen-epochs 4
    .venv-training/bin/torchrun --nproc-per-node 2 -m services.vision.training.finetune_images --pictures …

Two stages: in the first --frozen-epochs only a new last layer learns on the backbone's features; then the last
--unfrozen-blocks of its 16 blocks learn along, at a lower rate. A run leaves in --out what one of `train_images` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from services.vision.models.efficientnet import WEIGHTS
from services.vision.training.answering import answer, measure
from services.vision.training.data.emoji import write_folder
from services.vision.training.model.efficientnet import MEAN, STD, EfficientNet, read_weights
from services.vision.training.picture_set import PictureSets, add_arguments, describe_making, learn, read_sets
from services.vision.training.train_images import Trained, finish
from shared.training.arguments import make_parser, parse_fraction, parse_once, parse_positive, parse_whole
from shared.training.distributed import wrap
from shared.training.fit import fit
from shared.training.layout import channels_last
from shared.training.run import Run, launch, start
from shared.training.schedule import cosine

MODULE = "services.vision.training.finetune_images"
RECIPE = "finetuned-images"


def load_data(run: Run) -> PictureSets:
    """Reads and divides the pictures; without a folder given, the emoji's."""
    # Before the minute that reading takes: `make_network` needs it afterwards.
    run.dataset("efficientnet")
    folder = run.arguments.pictures
    if folder is None:
        folder = run.out / "emoji"
        write_folder(run.dataset("emoji") / "package", folder)
    return read_sets(run, folder, mean=MEAN, std=STD)


def make_network(run: Run, classes: int) -> EfficientNet:
    """The published backbone with a new last layer; what never learns is frozen."""
    tensors = read_weights(run.dataset("efficientnet") / WEIGHTS)
    model = EfficientNet.pretrained(tensors, classes, dropout=run.arguments.dropout)
    model.unfreeze(run.arguments.unfrozen_blocks)
    return model


def make_optimizer(model: EfficientNet, arguments: argparse.Namespace) -> torch.optim.Optimizer:
    """Two groups: the new layer learns at the full rate, the backbone at a share of it."""
    head = list(model.head.parameters())
    backbone = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("_fc.")
    ]
    groups = [{"params": head, "lr": arguments.learning_rate}]
    if backbone:
        groups.append({"params": backbone, "lr": arguments.learning_rate * arguments.backbone_rate})
    return torch.optim.AdamW(groups, weight_decay=arguments.weight_decay)


def train_one_epoch(
    run: Run, model: EfficientNet, optimizer: torch.optim.Optimizer, sets: PictureSets, epoch: int
) -> dict[str, float]:
    """One pass; in the first stage the backbone gives features and does not learn."""
    model.train()
    if epoch > run.arguments.frozen_epochs:
        return learn(run, model, optimizer, sets, epoch)
    return learn(run, model, optimizer, sets, epoch, model.classify_frozen)


def evaluate(run: Run, model: EfficientNet, sets: PictureSets) -> dict[str, float]:
    """Loss and accuracy on what is tuned on."""
    return measure(answer(run, model, sets.valid.images, sets.normalize), sets.valid.labels)


def main(arguments: argparse.Namespace) -> Trained:
    """Trains and keeps the result; returns it."""
    with start(arguments, RECIPE) as run:
        sets = load_data(run)
        model = channels_last(wrap(make_network(run, len(sets.classes)), run), run)
        learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        run.say(f"{sum(p.numel() for p in model.parameters()):,} weights, {learning:,} of which learn")
        optimizer = make_optimizer(model, arguments)
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
            # The package has them; a checkpoint need not.
            save_frozen=False,
            data_digest=sets.sha256,
        )
        return finish(run, model, sets, fitted, describe_making(MODULE, get_args_parser(), run, sets))


def run_once(seed: int, data_dir: Path, out_dir: Path) -> dict[str, object]:
    """One run as `make quality` asks for it; returns what `result.json` holds."""
    return main(parse_once(get_args_parser(), seed, data_dir, out_dir, "--no-keep-held-out")).result


def get_args_parser() -> argparse.ArgumentParser:
    """The shared options, those of pictures, and this recipe's."""
    parser = make_parser(__doc__, epochs=10, batch_size=32, learning_rate=4e-3, weight_decay=0.01)
    add_arguments(parser, pictures="the emoji of `sensorium data pull emoji`", side=112)
    group = parser.add_argument_group("transfer")
    group.add_argument(
        "--frozen-epochs", type=parse_whole, default=3, help="first ones in which only the last layer learns"
    )
    group.add_argument(
        "--unfrozen-blocks", type=parse_whole, default=4, help="of 16, which learn along in later epochs"
    )
    group.add_argument("--backbone-rate", type=parse_positive, default=0.1, help="share of --learning-rate")
    group.add_argument("--dropout", type=parse_fraction, default=0.2, help="before the last layer")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
