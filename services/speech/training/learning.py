"""Learning a sound classifier: what the recipes for commands and for kinds of sound share.

A recipe says how an item is drawn and changed; this module turns items into energies, keeps them for some epochs, and takes
the steps. Not here: where clips come from (`data`), how they are changed (`augmentation`), the command lines (`train_*.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.speech.pipeline.command import Samples
from services.speech.training.augmentation import spectrum
from services.speech.training.model.networks import BODIES, SoundClassifier
from shared.training.arguments import make_parser, parse_count, parse_fraction
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, step, wrap
from shared.training.fit import Fitted, fit
from shared.training.layout import channels_last
from shared.training.precision import widen
from shared.training.randomness import item_uniforms
from shared.training.run import Run
from shared.training.schedule import cosine

# Makes item `index` of round `at`: the samples [length] and the label's number.
Make = Callable[[int, int], tuple[Samples, int]]


class Items:
    """An epoch's items as energies, each made by `make` and kept for `renew` epochs.

    Masks and warping are what differs between the epochs in which an item is kept; they are the cheaper half.
    """

    def __init__(self, make: Make, renew: int) -> None:
        self._make, self._renew = make, renew
        self._round = -1
        self._kept: dict[int, tuple[Tensor, int]] = {}

    def get(self, model: SoundClassifier, epoch: int, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The energies [items, bands, frames] and the labels' numbers [items] of some items of an epoch, from 1."""
        at = (epoch - 1) // self._renew
        if at != self._round:
            self._round, self._kept = at, {}
        missing = [int(index) for index in indices if int(index) not in self._kept]
        if missing:
            made = [self._make(at, index) for index in missing]
            audio = torch.from_numpy(np.stack([samples for samples, _ in made]))
            with torch.no_grad():
                # Half the width for keeping: energies are logarithms, three digits of them are plenty.
                features = model.front(audio.to(model.front.mel.device)).half().cpu()
            for row, (index, (_, label)) in enumerate(zip(missing, made, strict=True)):
                self._kept[index] = features[row].clone(), label
        found = [self._kept[int(index)] for index in indices]
        return torch.stack([one for one, _ in found]).float(), torch.tensor([label for _, label in found])


def train_one_epoch(
    run: Run,
    model: SoundClassifier,
    optimizer: torch.optim.Optimizer,
    items: Items,
    batches: GlobalBatches,
    epoch: int,
) -> dict[str, float]:
    """Take an epoch's steps; returns the mean loss."""
    model.train()
    loss = Average()
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", len(batches)):
        features, target = (part.to(run.device) for part in items.get(model, epoch, batch.indices))
        draws = item_uniforms(run.seed, epoch, batch.indices, spectrum.DRAWS).astype(np.float32)
        with run.autocast():
            logits = model.classify_features(spectrum.alter(features, torch.from_numpy(draws).to(run.device)))
            total = nn.functional.cross_entropy(
                widen(logits), target, reduction="sum", label_smoothing=run.arguments.smoothing
            )
        loss.add(total, len(batch))
        step(run, model, optimizer, total / batch.global_size, clip_norm=5.0)
    return {"loss": loss.value(run)}


def predict(
    model: nn.Module, audio: NDArray[np.float32], device: torch.device, batch: int = 128
) -> NDArray[np.float32]:
    """Logits [items, labels] of windows [items, length]."""
    model.eval()
    with torch.no_grad():
        parts = [
            model(torch.from_numpy(audio[at : at + batch]).to(device)).float().cpu().numpy()
            for at in range(0, len(audio), batch)
        ]
    return np.concatenate(parts)


def evaluate(
    model: nn.Module, audio: NDArray[np.float32], target: NDArray[np.int64], device: torch.device
) -> dict[str, float]:
    """Accuracy and loss on windows that are not trained on."""
    logits, truth = torch.from_numpy(predict(model, audio, device)), torch.from_numpy(target)
    return {
        "accuracy": float((logits.argmax(1) == truth).double().mean()),
        "loss": float(nn.functional.cross_entropy(logits, truth)),
    }


def learn(
    run: Run,
    model: SoundClassifier,
    make: Make,
    watched: NDArray[np.float32],
    target: NDArray[np.int64],
    *,
    data_digest: str,
) -> Fitted:
    """Train `model` in place on items of `make`; the epoch that suits the windows `watched` best counts."""
    arguments = run.arguments
    wrap(model, run)
    if arguments.body == "cnn":
        channels_last(model, run)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.learning_rate, weight_decay=arguments.weight_decay
    )
    items = Items(make, arguments.renew)
    count = min(arguments.items, arguments.limit or arguments.items)
    batches = GlobalBatches(count, arguments.batch_size, run.seed, run)
    return fit(
        run,
        model,
        optimizer,
        train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, items, batches, epoch),
        evaluate=lambda: evaluate(model, watched, target, run.device),
        epochs=arguments.epochs,
        patience=arguments.patience,
        metric="loss",
        better="lower",
        schedule=cosine(0.1),
        data_digest=data_digest,
    )


def make_sound_parser(
    doc: str | None, *, epochs: int, items: int, body: str, width: int, learning_rate: float = 2e-3
) -> argparse.ArgumentParser:
    """The shared options and those of sound classifiers; the keywords are a recipe's defaults."""
    parser = make_parser(doc, epochs=epochs, batch_size=32, learning_rate=learning_rate, weight_decay=1e-2)
    group = parser.add_argument_group("sound")
    group.add_argument("--body", choices=BODIES, default=body, help="what stands behind the log-mel energies")
    group.add_argument("--width", type=parse_count, default=width, help="channels of the first stage")
    group.add_argument("--items", type=parse_count, default=items, metavar="N", help="items of an epoch")
    group.add_argument(
        "--renew", type=parse_count, default=5, metavar="N", help="epochs after which all items are made anew"
    )
    group.add_argument("--smoothing", type=parse_fraction, default=0.1, metavar="X", help="of the labels")
    return parser
