"""A small real task: scikit-learn's 1,797 digits of 8×8 pixels (`--data` holds them as digits.npz, since importing
scikit-learn takes longer than the training), a convolutional network of two layers.

    python -m tests.training.core.train_digits --out DIR
    torchrun --standalone --nproc-per-node 2 -m tests.training.core.train_digits --out DIR

In the environment, DIGITS_KILL_AFTER=N ends the last process with SIGKILL after N epochs, in the middle of the next one, and
DIGITS_PAUSE_AFTER=N says "paused" there and waits for a signal.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.training.arguments import make_parser
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, GlobalBatchNorm, gather_rows, step, wrap
from shared.training.fit import Fitted, fit
from shared.training.precision import widen
from shared.training.randomness import GlobalDropout, item_rng
from shared.training.run import Run, launch, start
from shared.training.schedule import cosine

VALID = 400


@dataclass
class Split:
    images: np.ndarray
    labels: Tensor
    batches: GlobalBatches


def load_data(run: Run) -> tuple[Split, Split]:
    with np.load(run.arguments.data / "digits.npz") as found:
        order = np.random.default_rng(0).permutation(len(found["labels"]))
        images = (found["images"][order] / 16).astype(np.float32)[:, None]
        labels = torch.from_numpy(found["labels"][order])
    limit = run.arguments.limit

    def split(part: slice, *, shuffle: bool) -> Split:
        count = len(labels[part][:limit])
        batches = GlobalBatches(count, run.arguments.batch_size, run.seed, run, shuffle=shuffle)
        return Split(images[part][:limit], labels[part][:limit].to(run.device), batches)

    return split(slice(VALID, None), shuffle=True), split(slice(VALID), shuffle=False)


def make_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        GlobalBatchNorm(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        GlobalDropout(0.1),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        GlobalDropout(0.2),
        nn.Linear(256, 10),
    )


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(image, rng.integers(-1, 2, size=2), axis=(-2, -1)) * np.float32(rng.uniform(0.9, 1.1))


def interrupt(run: Run, epoch: int) -> None:
    if run.rank == run.world - 1 and epoch == int(os.environ.get("DIGITS_KILL_AFTER", -1)) + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if epoch == int(os.environ.get("DIGITS_PAUSE_AFTER", -1)) + 1:
        run.say("paused")
        signal.pause()


def train_one_epoch(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, train: Split, epoch: int
) -> dict[str, float]:
    model.train()
    loss = Average()
    for batch in run.track(train.batches.epoch(epoch), f"epoch {epoch}", len(train.batches)):
        if batch.step == 3:
            interrupt(run, epoch)
        rngs = [item_rng(run.seed, epoch, int(item)) for item in batch.indices]
        images = [augment(train.images[item], rng) for item, rng in zip(batch.indices, rngs, strict=True)]
        with run.autocast():
            logits = model(torch.from_numpy(np.stack(images)).to(run.device))
            total = cross_entropy(widen(logits), train.labels[batch.indices], reduction="sum")
        loss.add(total, len(batch))
        step(run, model, optimizer, total / batch.global_size, clip_norm=5.0)
    return {"loss": loss.value(run)}


def evaluate(run: Run, model: nn.Module, valid: Split, ending: Callable[[], None]) -> dict[str, float]:
    ending()
    indices, logits = [], []
    for batch in valid.batches.epoch(1):
        indices.append(batch.indices)
        logits.append(
            model(torch.from_numpy(valid.images[batch.indices]).to(run.device)).float().cpu().numpy()
        )
    gathered = torch.from_numpy(gather_rows(run, indices, logits))
    labels = valid.labels.cpu()
    return {
        "loss": float(cross_entropy(gathered, labels)),
        "accuracy": float((gathered.argmax(1) == labels).float().mean()),
    }


def main(arguments: argparse.Namespace, ending: Callable[[], None] = lambda: None) -> Fitted:
    """ending: called at the end of every epoch, before it is kept."""
    with start(arguments, "digits-8x8") as run:
        train, valid = load_data(run)
        model = wrap(make_network(), run)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay
        )
        fitted = fit(
            run,
            model,
            optimizer,
            train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, train, epoch),
            evaluate=lambda: evaluate(run, model, valid, ending),
            epochs=arguments.epochs,
            patience=arguments.patience,
            metric=arguments.metric,
            better="lower" if arguments.metric == "loss" else "higher",
            schedule=cosine(warmup=0.1),
        )
        if run.is_main:
            (run.out / "result.json").write_text(json.dumps({"best_epoch": fitted.best_epoch, **fitted.best}))
    return fitted


def get_args_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, epochs=6, batch_size=64, learning_rate=1e-2, weight_decay=0.01)
    parser.add_argument(
        "--metric", choices=("accuracy", "loss"), default="accuracy", help="that chooses the best"
    )
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
