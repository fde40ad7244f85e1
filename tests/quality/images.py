"""Fine-tuning the pretrained backbone on a folder of images: emoji whose artist and kind were not in training.

Beside it, on the same pictures: the same backbone's features with a linear model and with the nearest neighbour, and a
network from scratch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from services.vision.models.efficientnet import WEIGHTS
from services.vision.training import finetune_images, train_images
from services.vision.training.data.emoji import write_folder
from services.vision.training.data.source import read_source
from services.vision.training.model.efficientnet import MEAN, STD, EfficientNet, read_weights
from shared.training.evaluation.baseline import linear, majority, nearest_neighbour
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.paired import compare
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import against, exact, rate
from tests.quality.rows import seeds as rows_of_seeds

_LONGEST_S = 600.0
_SIDE = finetune_images.get_args_parser().get_default("side")


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Accuracy over seeds, and against each of the others with a paired test on the pooled answers."""
    runs = [place.seed_run("images", seed, finetune_images.run_once) for seed in seeds]
    scratch = [
        place.once(
            "images",
            f"scratch-{seed}",
            lambda folder, seed=seed: _train_from_scratch(seed, place.data, folder),
        )
        for seed in seeds
    ]
    fixed = place.once("images", "baselines", lambda folder: _run_baselines(place.data, folder))
    items = runs[0]["items"]
    how = f"{items} emoji by Google in {len(runs[0]['classes'])} classes; trained on other emoji, drawn by Twitter"
    yield from rows_of_seeds("images/emoji", [run["accuracy"] for run in runs], "accuracy", how, items=items)
    yield from rows_of_seeds(
        "images/emoji/scratch", [run["accuracy"] for run in scratch], "accuracy", how, items=items
    )
    right = np.concatenate([np.equal(run["predictions"], run["labels"]) for run in runs])
    clusters = np.tile(np.arange(items), len(runs))
    others = {
        name: np.tile(np.equal(answers, runs[0]["labels"]), len(runs)) for name, answers in fixed.items()
    }
    others["scratch"] = np.concatenate([np.equal(run["predictions"], run["labels"]) for run in scratch])
    for name, beside in others.items():
        if name != "scratch":
            once = beside[:items]
            yield rate(f"images/emoji/{name}", wilson(int(once.sum()), items), "accuracy", how)
        compared = compare(right, beside, clusters=clusters)
        yield against(f"images/emoji/against/{name}", compared, f"{how}; answers of all seeds, by picture")
    slowest = max(run["duration_s"] for run in runs)
    yield exact("images/emoji/duration", slowest, "s", "the slowest training's epochs", at_most=_LONGEST_S)


def _train_from_scratch(seed: int, data: Path, out: Path) -> dict[str, object]:
    pictures = out / "emoji"
    write_folder(data / "emoji" / "package", pictures)
    return train_images.run_once(
        seed, data, out, pictures=pictures, options=["--side", "32", "--epochs", "40"]
    )


def _run_baselines(data: Path, folder: Path) -> dict[str, list[int]]:
    """Answers of models on the backbone's features, which does not learn."""
    write_folder(data / "emoji" / "package", folder / "emoji")
    source = read_source(folder / "emoji", _SIDE)
    model = EfficientNet.pretrained(read_weights(data / "efficientnet" / WEIGHTS)).eval()

    def embed(pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
        with torch.no_grad():
            parts = [model.embed((part - MEAN) / STD).numpy() for part in images.split(32)]
        return np.concatenate(parts)

    learnt, seen = embed(source.train.pixels), embed(source.held_out.pixels)
    truth = source.train.labels
    return {
        "majority": majority(truth, len(seen)).answers.tolist(),
        "features_linear": linear(learnt, truth, seen, strength=0.01).answers.tolist(),
        "features_nearest": nearest_neighbour(learnt, truth, seen, metric="cosine").answers.tolist(),
    }
