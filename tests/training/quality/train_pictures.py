"""The shortest whole way from data to an artifact: scikit-learn's digits of 8×8 pixels, one small network.

    python -m tests.training.quality.train_pictures --out DIR [--release]

Without --release it only trains. The catalogue is the one that the environment's PICTURES_CATALOG names.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.inference.manifest import Data, Gate, HeldOut, Quality
from shared.training.arguments import make_parser
from shared.training.batches import GlobalBatches
from shared.training.card.content import Card, Test
from shared.training.card.files import make_files
from shared.training.compression.pareto import Point, choose, write_points
from shared.training.compression.weights import weight_only_int8
from shared.training.distributed import Average, step, wrap
from shared.training.evaluation.calibration import softmax
from shared.training.evaluation.metrics import measure
from shared.training.export import check_parity, to_onnx
from shared.training.fit import Fitted, fit
from shared.training.parity import ask_torch
from shared.training.provenance import collect_made
from shared.training.release import PARITY, POINTS, draft_graph, make_golden, release
from shared.training.run import Run, launch, start

HELD_OUT = 400
LABELS = [str(digit) for digit in range(10)]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def load_data() -> tuple[np.ndarray, np.ndarray]:
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    return (found.images[order] / 16).astype(np.float32)[:, None], found.target[order]


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


def write_artifact(run: Run, model: nn.Module, parser: argparse.ArgumentParser) -> None:
    images, labels = load_data()
    held = {"image": images[:HELD_OUT]}
    content = to_onnx(model, {"image": torch.from_numpy(images[:3])}, ["logits"])
    parity = check_parity(model, content, [held], at_least=HELD_OUT, keep=run.out / PARITY)
    metrics = measure(labels[:HELD_OUT], softmax(ask_torch(model, held, ["logits"])["logits"]), LABELS)
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
        catalog=Path(os.environ["PICTURES_CATALOG"]),
        name="pictures",
        graph=draft_graph(content),
        reference=content,
        golden=make_golden(model, {"image": images[:2]}),
        labels=LABELS,
        preprocessing="image-gray-28/1",
        made=made,
        quality=Quality(
            held_out=HeldOut(name="digits", sha256="1" * 64, items=HELD_OUT),
            metrics=metrics.to_manifest(),
            gates={"accuracy": Gate(min=0.5)},
            parity=parity,
        ),
        card=text,
        plots=plots,
    )


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
            write_artifact(run, model, parser)
        return fitted


def get_args_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, epochs=3, batch_size=32, learning_rate=3e-3)
    parser.add_argument("--release", action="store_true", help="make an artifact of it")
    return parser


if __name__ == "__main__":
    launch(main, get_args_parser())
