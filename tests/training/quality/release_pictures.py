"""What `train_pictures --release` makes of its network."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shared.inference.manifest import Data, Gate, HeldOut, Quality
from shared.training.card.content import Card, Test
from shared.training.card.files import make_files
from shared.training.compression.pareto import Point, choose, write_points
from shared.training.compression.weights import weight_only_int8
from shared.training.evaluation.calibration import softmax
from shared.training.evaluation.metrics import measure
from shared.training.export import check_parity, to_onnx
from shared.training.parity import ask_torch
from shared.training.provenance import collect_made
from shared.training.release import PARITY, POINTS, draft_graph, make_golden, release
from shared.training.run import Run

LABELS = [str(digit) for digit in range(10)]


def write_artifact(
    run: Run,
    model: nn.Module,
    parser: argparse.ArgumentParser,
    images: np.ndarray,
    labels: np.ndarray,
    catalog: Path,
) -> None:
    held = {"image": images}
    content = to_onnx(model, {"image": torch.from_numpy(images[:3])}, ["logits"])
    parity = check_parity(model, content, [held], at_least=len(images), keep=run.out / PARITY)
    metrics = measure(labels, softmax(ask_torch(model, held, ["logits"])["logits"]), LABELS)
    share = metrics.accuracy
    points = choose(
        [
            Point("fp32", share.value, share.low, share.high, 1e-4, len(content)),
            Point("int8 weights", share.value, share.low, share.high, 1e-4, len(weight_only_int8(content))),
        ],
        reference="fp32",
    )
    write_points(run.out / POINTS, points)
    made = collect_made(
        "tests.training.quality.train_pictures", parser, run.arguments, [Data(name="digits", sha256="0" * 64)]
    )
    card = Card(
        name="pictures",
        title="Tells which digit a picture of 8×8 pixels shows.",
        labels=LABELS,
        tests=[Test("held-out pictures", metrics)],
        made=made,
        data=["scikit-learn's digits, BSD-3-Clause."],
        license="BSD-3-Clause",
        limits=["Knows nothing larger than 8×8 pixels."],
        points=points,
        parity=parity,
    )
    text, plots = make_files(card)
    release(
        run.out / "artifact",
        catalog=catalog,
        name="pictures",
        graph=draft_graph(content),
        reference=content,
        golden=make_golden(model, {"image": images[:2]}),
        labels=LABELS,
        preprocessing="image-gray-28/1",
        made=made,
        quality=Quality(
            held_out=HeldOut(name="digits", sha256="1" * 64, items=len(images)),
            metrics=metrics.to_manifest(),
            gates={"accuracy": Gate(min=0.5)},
            parity=parity,
        ),
        card=text,
        plots=plots,
    )
