"""What the recipes for any folder of pictures share: reading it, a pass over it, and what is kept of a run.

Not here: the networks and what learns when (`train_images`, `finetune_images`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from services.vision.pipeline.classification import CropConstants
from services.vision.training.augmentation import PhotoAugmentation
from services.vision.training.data.pictures import Pictures, check_counts, hold_out
from services.vision.training.data.source import Source, read_source
from shared.inference.manifest import Data, Made, Name
from shared.training.arguments import parse_count, parse_fraction
from shared.training.batches import GlobalBatches
from shared.training.distributed import Average, step
from shared.training.errors import DataError
from shared.training.precision import widen
from shared.training.provenance import collect_made
from shared.training.run import Run

# The least side that the networks' three halvings leave something of.
LEAST_SIDE = 8


@dataclass(frozen=True)
class PictureSet:
    """images: UINT8 [n, 3, side, side]; labels: INT64 [n]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PictureSets:
    """Pictures to learn from, to tune on and to judge by, disjoint; and what is known of all of them."""

    train: PictureSet
    valid: PictureSet
    held_out: PictureSet
    source: Source
    constants: CropConstants

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self.source.train.classes

    @property
    def side(self) -> int:
        """Of every picture, in pixels."""
        return self.constants.image_size

    @property
    def sha256(self) -> str:
        """Digest of what is learnt from and tuned on."""
        return self.source.train.sha256

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels [n, 3, side, side], 0..255, as serving gives them to the graph."""
        mean, std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.constants.mean, self.constants.std)
        )
        return (images.float() - mean) / std


def add_arguments(parser: argparse.ArgumentParser, *, pictures: str, side: int) -> argparse._ArgumentGroup:
    """The options of a recipe that takes any folder of pictures; `pictures` is the folder that help names."""
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--pictures",
        type=Path,
        default=None,
        metavar="DIR",
        help="CIFAR-10 (binary or python), idx or JSON digits, a folder of images for each class, or "
        f"images with a labels.csv; with or without folders train and held_out. Without it {pictures}",
    )
    group.add_argument(
        "--name",
        type=_parse_name,
        default=None,
        help="of the model, as it will be served; without it the name of the folder --out",
    )
    group.add_argument(
        "--keep-held-out",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the held-out pictures to <state>/heldout/vision/NAME, where `sensorium models compare` and "
        "`promote` find them; never with --limit",
    )
    group.add_argument("--side", type=parse_count, default=side, help="pixels; image files are cropped to it")
    group.add_argument(
        "--share", type=parse_fraction, default=0.2, help="held out of each class, where no part is"
    )
    group.add_argument(
        "--valid-share", type=parse_fraction, default=0.1, help="of the rest, to tune on: epochs, temperature"
    )
    group.add_argument("--smoothing", type=parse_fraction, default=0.1, help="of the labels")
    group.add_argument("--no-flip", action="store_true", help="left and right mean something: digits, signs")
    return group


def _parse_name(text: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValueError:
        wanted = "a name of letters, digits, dots and dashes"
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}") from None


def read_sets(run: Run, folder: Path, *, mean: float, std: float) -> PictureSets:
    """Read and divide a folder of pictures of any known format.

    Raises:
        DataError: the folder cannot be used.
    """
    arguments = run.arguments
    source = read_source(
        folder, arguments.side, share=arguments.share, seed=arguments.seed, limit=arguments.limit
    )
    side = source.train.pixels.shape[1]
    if source.train.pixels.shape[2] != side or side < LEAST_SIDE:
        got = " x ".join(map(str, source.train.pixels.shape[1:3]))
        raise DataError(
            folder, expected=f"square pictures of at least {LEAST_SIDE} pixels", got=got, advice="crop them"
        )
    check_counts(source.train, 2, "to learn from and to tune on")
    train, valid = hold_out(source.train.labels, arguments.valid_share, arguments.seed)
    sets = PictureSets(
        _to_set(source.train.take(train)),
        _to_set(source.train.take(valid)),
        _to_set(source.held_out),
        source,
        CropConstants(image_size=side, mean=(mean,) * 3, std=(std,) * 3),
    )
    run.say(
        f"{len(sets.classes)} classes; pictures of {side} x {side}: {len(train)} to learn from, {len(valid)} to "
        f"tune on, {len(sets.held_out)} to judge by, divided by {source.divided}"
    )
    return sets


def learn(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sets: PictureSets,
    epoch: int,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """One pass over what is learnt from; `forward` gives the logits, the model itself where it is left out."""
    augment, loss = PhotoAugmentation(flip=not run.arguments.no_flip), Average()
    batches = GlobalBatches(len(sets.train), run.arguments.batch_size, run.seed, run)
    for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", total=len(batches)):
        pixels = sets.train.images[batch.indices].to(run.device).float()
        images = sets.normalize(augment(pixels, sets.side, run.seed, epoch, batch.indices))
        with run.autocast():
            logits = (forward or model)(images)
            total = cross_entropy(
                widen(logits),
                sets.train.labels[batch.indices].to(run.device),
                reduction="sum",
                label_smoothing=run.arguments.smoothing,
            )
        loss.add(total, len(batch))
        step(run, model, optimizer, total / batch.global_size)
    return {"loss": loss.value(run)}


def describe(
    run: Run, sets: PictureSets, logits: NDArray[np.float32], more: Mapping[str, object]
) -> dict[str, object]:
    """What is kept of a run: the classes, how well it did, and its answer to every held-out picture."""
    labels = sets.held_out.labels.numpy()
    return {
        "recipe": run.recipe,
        "seed": run.seed,
        "classes": list(sets.classes),
        "side": sets.side,
        "items": len(labels),
        "accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "data_sha256": sets.sha256,
        "held_out_sha256": sets.source.held_out.sha256,
        **more,
        "labels": labels.tolist(),
        "predictions": logits.argmax(axis=1).tolist(),
    }


def describe_making(module: str, parser: argparse.ArgumentParser, run: Run, sets: PictureSets) -> Made:
    """How a run can be repeated: of a folder of the user's own only the digest is told, and no command without it."""
    made = collect_made(module, parser, run.arguments, [Data(name="pictures", sha256=sets.sha256)])
    return made if run.arguments.pictures is None else made.model_copy(update={"command": ""})


def _to_set(pictures: Pictures) -> PictureSet:
    """Grey pictures become RGB, as serving's are."""
    pixels = pictures.pixels
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return PictureSet(torch.from_numpy(planes), torch.from_numpy(pictures.labels))
