"""A network for pictures of any kind as an artifact that ClassifyImage serves: `<run>/artifact/<name>/1`.

`sensorium models promote` puts it into place beside the models that the catalogue knows. Not here: the digits model's
(`release_digits`), whose entry, card and smaller forms are its own.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.vision.pipeline.classification import PREPROCESSING
from services.vision.training.held_out import keep_held_out
from services.vision.training.picture_set import PictureSets
from shared.inference.artifact import Artifact, write_artifact
from shared.inference.draft import Draft
from shared.inference.manifest import HeldOut, Made, Quality
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.card.files import make_files
from shared.training.evaluation.baseline import majority
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import calibration_error, measure
from shared.training.evaluation.paired import compare
from shared.training.export import to_onnx
from shared.training.fit import Fitted
from shared.training.parity import check_parity
from shared.training.release import draft_graph, make_golden
from shared.training.run import Run

# Pictures that graph and network are compared on: large ones take a while.
_COMPARED = 200


def release_images(
    run: Run,
    model: nn.Module,
    sets: PictureSets,
    logits: NDArray[np.float32],
    fitted: Fitted,
    *,
    temperature: float,
    made: Made,
) -> Artifact:
    """Export the network, check it and write it with its card; `logits` are its answers to what was held out."""
    held_out, side = sets.held_out, sets.side
    content = to_onnx(model, {"image": torch.zeros(2, 3, side, side)}, ["logits"], {"image": {0: "batch"}})
    compared = sets.normalize(held_out.images[:_COMPARED]).numpy()
    batches = ({"image": compared[at : at + 16]} for at in range(0, len(compared), 16))
    parity = check_parity(model, content, batches, at_least=1)
    truth = held_out.labels.numpy()
    metrics = measure(truth, softmax(logits), sets.classes)
    quality = Quality(
        held_out=_keep_held_out(run, sets),
        metrics=metrics.to_manifest(),
        parity=parity,
    )
    guess = majority(sets.train.labels.numpy(), len(truth))
    card = Card(
        name=_name(run),
        title=f"Says which of {len(sets.classes)} classes a picture shows: {', '.join(sets.classes[:20])}.",
        labels=sets.classes,
        tests=[
            Test(
                f"Pictures held out ({sets.source.divided})",
                metrics,
                [
                    Rival(
                        guess.name,
                        wilson(int(guess.correct(truth).sum()), len(truth)),
                        compare(metrics.correct, guess.correct(truth)),
                    )
                ],
            )
        ],
        made=made,
        data=[
            f"{len(sets.train) + len(sets.valid)} pictures of the user's own folder; their licence is not known here."
        ],
        license="not stated",
        limits=[
            "Every picture gets one of these classes, also one that shows something else.",
            f"The middle of a picture is looked at, at {side} x {side} pixels.",
        ],
        calibration=Calibration(
            reliability(truth, softmax(logits)),
            before=calibration_error(truth, softmax(logits, 1 / temperature)),
            after=calibration_error(truth, softmax(logits)),
            temperature=temperature,
        ),
        parity=parity,
        training=(
            f"{sum(p.numel() for p in model.parameters()):,} weights, {len(fitted.history)} epochs of {len(sets.train)} "
            f"pictures in {fitted.duration_s:.0f} s; {len(sets.valid)} others chose epoch {fitted.best_epoch}."
        ),
    )
    text, plots = make_files(card)
    entry: dict[str, Any] = {
        "name": _name(run),
        "service": "vision",
        "version": "1",
        "task": "ClassifyImage",
        "description": card.title,
        "license": "not stated",
        "card_text": text,
        "made": made,
        "quality": quality,
    }
    draft = Draft(
        graphs={"model": draft_graph(content, max_batch_size=32)},
        constants=sets.constants.model_dump(),
        preprocessing=PREPROCESSING,
        golden=make_golden(model, {"image": compared[:2].round(3)}),
        golden_made_by=f"PyTorch {torch.__version__}, the trained network, seed {run.seed}",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3},
            # TF32 matrix products keep 10 bits of mantissa.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 5e-2},
        },
        assets={
            "labels": ("labels.txt", "".join(f"{label}\n" for label in sets.classes).encode()),
            **{file.partition(".")[0]: (file, png) for file, png in plots.items()},
        },
    )
    return write_artifact(run.out / "artifact", entry, draft, replace=True)


def _keep_held_out(run: Run, sets: PictureSets) -> HeldOut:
    pictures, name = sets.source.held_out, sets.source.divided
    if run.arguments.keep_held_out:
        return keep_held_out(run, pictures, _name(run), name)
    return HeldOut(name=name, sha256=pictures.sha256, items=len(pictures))


def _name(run: Run) -> str:
    """The artifact's name: --name, or the run's folder, as far as a name may be so."""
    if run.arguments.name is not None:
        return str(run.arguments.name)
    return re.sub(r"[^a-z0-9._-]+", "-", run.out.resolve().name.lower()).strip("-._") or run.recipe
