"""The shortest whole way from data to an artifact: scikit-learn's digits of 8×8 pixels, one small network.

    python -m tests.training.quality.train_pictures --out DIR [--release]

Without --release it only trains. The environment's PICTURES is the folder of digits.npz, which the test wrote (importing
scikit-learn takes longer than the training), and of the catalogue.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.training.arguments import make_parser
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, step, wrap
from shared.training.fit import Fitted, fit
from shared.training.parity import ask_torch
from shared.training.run import Run, launch, start

FOLDER = Path(os.environ["PICTURES"])
HELD_OUT = 400


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def load_data() -> tuple[np.ndarray, np.ndarray]:
    with np.load(FOLDER / "digits.npz") as found:
        order = np.random.default_rng(0).permutation(len(found["labels"]))
        return (found["images"][order] / 16).astype(np.float32)[:, None], found["labels"][order]


def train_one_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, batches: GlobalBatches, epoch: int
) -> dict[str, float]:
    images, labels = load_data()
    model.train()
    loss = Average()
    for batch in batches.epoch(epoch):
        inputs = torch.from_numpy(images[HELD_OUT + batch.indices])
        total = cross_entropy(
            model(inputs), torch.from_numpy(labels[HELD_OUT + batch.indices]), reduction="sum"
        )
        loss.add(total, len(batch))
        step(run, model, optimizer, total / batch.global_size)
    return {"loss": loss.value(run)}


def evaluate(model: nn.Module) -> dict[str, float]:
    images, labels = load_data()
    logits = ask_torch(model, {"image": images[:HELD_OUT]}, ["logits"])["logits"]
    return {"accuracy": float((logits.argmax(1) == labels[:HELD_OUT]).mean())}


def main(arguments: argparse.Namespace) -> Fitted:
    parser = get_args_parser()
    with start(arguments, "pictures") as run:
        model = wrap(Network(), run)
        optimizer = torch.optim.Adam(model.parameters(), lr=arguments.learning_rate)
        count = min(len(load_data()[1]) - HELD_OUT, arguments.limit or 10**9)
        batches = GlobalBatches(count, arguments.batch_size, run.seed, run)
        fitted = fit(
            run,
            model,
            optimizer,
            train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, batches, epoch),
            evaluate=lambda: evaluate(model),
            epochs=arguments.epochs,
            patience=arguments.patience,
            metric="accuracy",
        )
        if arguments.release and run.is_main:
            from tests.training.quality.release_pictures import write_artifact

            images, labels = load_data()
            write_artifact(
                run,
                model,
                parser,
                images[:HELD_OUT],
                labels[:HELD_OUT],
                FOLDER / "services/vision/models/catalog.toml",
            )
        return fitted


def get_args_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, epochs=3, batch_size=32, learning_rate=3e-3)
    parser.add_argument("--release", action="store_true", help="make an artifact of it")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
