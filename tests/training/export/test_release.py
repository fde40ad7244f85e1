"""From a network to an artifact folder: what is written, what is refused, and that a replica would load it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.inference.artifact import read_artifact, verify
from shared.inference.manifest import Batching, Cost, Data, Gate, HeldOut, Pad, Quality
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.card.files import make_files
from shared.training.compression.pareto import Point, choose
from shared.training.compression.weights import weight_only_int8
from shared.training.evaluation.baseline import majority
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import measure
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import cut
from shared.training.export import to_onnx
from shared.training.parity import check_kept, check_parity
from shared.training.provenance import collect_made, describe_command, digest_data, read_commit
from shared.training.release import PARITY, REFERENCE, ReleaseError, draft_graph, make_golden, release
from tests.training.export.networks import CASES, GRAMS, LABELS, draw_grams, make

NAMES = [f"topic {index}" for index in range(LABELS)]
CATALOG = """
[topics]
version = "3"
task = "ClassifyText"
default_for = []
description = "Topics of short texts."
license = "Apache-2.0"
license_note = "Trained here."
training_data = "Drawn numbers."
shipped = true
"""


def draw(rows: int, seed: int) -> dict[str, np.ndarray]:
    drawn = draw_grams(rows, 9, torch.Generator().manual_seed(seed))
    return {key: value.numpy() for key, value in drawn.items()}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("a"))
    parser.add_argument("--out", type=Path, default=Path("b"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--kind", default="bag")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--mix", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1])
    return parser


@pytest.fixture
def parts(made_once: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """All that `release` takes, in a run's folder of the test's own."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(made_once["models"].parent / PARITY, run / PARITY)
    return {**made_once, "models": run / "artifact"}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same, made the way that a script makes it."""
    tmp_path = tmp_path_factory.mktemp("made")
    catalog = tmp_path / "services" / "nlp" / "models" / "catalog.toml"
    catalog.parent.mkdir(parents=True)
    catalog.write_text(CATALOG)
    network, out = make(CASES["grams"]), tmp_path / "run"
    content = to_onnx(network, draw_grams(3, 7, torch.Generator().manual_seed(0)), ["logits"], GRAMS)
    parity = check_parity(network, content, [draw(256, seed) for seed in range(4)], keep=out / PARITY)
    parser = make_parser()
    made = collect_made(
        "services.nlp.training.train_topics",
        parser,
        parser.parse_args(["--seed", "4"]),
        [Data(name="d", sha256="0" * 64)],
    )
    rng = np.random.default_rng(0)
    truth = rng.integers(0, LABELS, 400)
    logits = rng.normal(0, 1, (400, LABELS))
    logits[np.arange(400), truth] += 2
    metrics = measure(truth, softmax(logits), NAMES)
    rival = majority(truth, 400)
    points = choose(
        [
            Point("fp32", 0.8, 0.7, 0.9, 1e-4, len(content)),
            Point("weight-only int8", 0.8, 0.7, 0.9, 1e-4, 1000),
        ],
        reference="fp32",
    )
    card = Card(
        name="topics",
        title="Says which of five topics a text is about.",
        labels=NAMES,
        tests=[
            Test(
                "held-out texts",
                metrics,
                [
                    Rival(
                        rival.name,
                        wilson(int(rival.correct(truth).sum()), 400),
                        compare(metrics.correct, rival.correct(truth)),
                    )
                ],
            )
        ],
        made=made,
        data=["Drawn numbers, public domain."],
        license="Apache-2.0",
        limits=["Knows nothing of real texts."],
        calibration=Calibration(reliability(truth, softmax(logits)), 0.2, metrics.ece or 0.0, 1.3),
        slices={"length": cut(metrics.correct, np.repeat(["short", "a | b"], 200))},
        fairness="Not measured: drawn numbers have no authors.",
        points=points,
        parity=parity,
        training="None.",
    )
    text, plots = make_files(card)
    quality = Quality(
        held_out=HeldOut(name="drawn", sha256="3" * 64, items=400),
        metrics=metrics.to_manifest(),
        gates={"accuracy": Gate(min=0.6)},
        parity=parity,
    )
    return {
        "models": out / "artifact",
        "catalog": catalog,
        "name": "topics",
        "graph": draft_graph(
            content,
            batching=Batching(
                cost=Cost(input="ids", axes=(0, 1)), pad=Pad(axis=1, inputs={"ids": 0, "counts": 0})
            ),
        ),
        "reference": content,
        "golden": make_golden(network, draw(2, 5)),
        "labels": NAMES,
        "preprocessing": "text-ngrams/1",
        "made": made,
        "quality": quality,
        "card": text,
        "plots": plots,
    }


def release_parts(parts: dict[str, Any], **changed: Any) -> Any:
    said = {**parts, **changed}
    return release(said.pop("models"), **said)


def test_the_folder_holds_all_that_was_said(parts: dict[str, Any]) -> None:
    artifact = release_parts(parts)
    assert artifact.folder == parts["models"] / "topics" / "3"
    verify(read_artifact(artifact.folder))
    assert {path.name for path in artifact.folder.iterdir()} == {
        *("artifact.json", "model.onnx", "golden.npz", "card.md"),
        *("confusion.png", "reliability.png", "pareto.png"),
    }
    manifest = artifact.manifest
    assert (manifest.service, manifest.task, manifest.license) == ("nlp", "ClassifyText", "Apache-2.0")
    assert manifest.constants["labels"] == NAMES
    assert manifest.made == parts["made"]
    assert manifest.quality == parts["quality"]
    assert artifact.graphs["model"].precision == "fp32"
    assert artifact.graphs["model"].batching.pad is not None
    assert (artifact.folder / "card.md").read_text() == parts["card"]


def test_the_same_parts_give_the_same_artifact(parts: dict[str, Any], tmp_path: Path) -> None:
    first = release_parts(parts)
    assert release_parts(parts).digest == first.digest
    assert release_parts(parts, models=tmp_path / "other" / "artifact").digest == first.digest


def test_what_measures_it_later_lies_beside_it(parts: dict[str, Any]) -> None:
    release_parts(parts)
    out = parts["models"].parent
    assert check_kept((out / REFERENCE).read_bytes(), out / PARITY) == parts["quality"].parity


def test_golden_answers_are_torchs_and_a_graph_that_gives_others_is_refused(parts: dict[str, Any]) -> None:
    other = make(CASES["grams"], seed=3)
    with pytest.raises(ReleaseError, match="golden answers: logits: the graph differs from torch by"):
        release_parts(parts, golden=make_golden(other, draw(2, 5)))
    assert not (parts["models"] / "topics").exists()


def test_an_int8_graph_is_released_with_its_own_tolerance(parts: dict[str, Any]) -> None:
    graph = dataclasses.replace(
        parts["graph"], content=weight_only_int8(parts["reference"], smallest=64), precision="int8"
    )
    with pytest.raises(ReleaseError, match="an int8 graph needs the tolerance that was measured"):
        release_parts(parts, graph=graph, tolerance={"CPUExecutionProvider": {"rtol": 0, "atol": 1e-6}})
    artifact = release_parts(
        parts, graph=graph, tolerance={"CPUExecutionProvider": {"rtol": 0.1, "atol": 0.05}}
    )
    assert artifact.graphs["model"].precision == "int8"


def test_what_is_too_large_for_the_tree_is_refused(parts: dict[str, Any]) -> None:
    assets = {"weights": ("weights.bin", b"0" * ((4 << 20) + 1))}
    with pytest.raises(ReleaseError, match=r"weights\.bin: expected at most 4194304 bytes"):
        release_parts(parts, assets=assets)
    release_parts(parts, assets=assets, max_file_bytes=5 << 20)


def test_a_model_that_the_catalogue_lacks_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ReleaseError, match=r"expected an entry \[spam\], got topics"):
        release_parts(parts, name="spam")


def test_the_card_says_what_was_measured(parts: dict[str, Any]) -> None:
    card = parts["card"]
    for said in (
        "# topics",
        "**held-out texts**: 400 items",
        "| majority |",
        "better, p < 0.001",
        "expected calibration error 0.200 without",
        "**By length**, worst first",
        "a \\| b",
        "**Fairness**: Not measured",
        "**weight-only int8** (chosen)",
        "it loses 0.0 points of accuracy",
        "on 1024 held-out items",
        "**Limits**",
        "`python -m services.nlp.training.train_topics --seed 4 --threads 0`",
        "accuracy within 0.01",
    ):
        assert said in card, said


def test_the_command_says_what_differs_from_the_defaults_and_no_place() -> None:
    parser = make_parser()

    def describe(*words: str) -> str:
        return describe_command("m.train", parser, parser.parse_args(words))

    assert describe() == "python -m m.train --seed 0 --threads 0"
    assert describe("--data", "/x", "--out", "/y", "--fresh") == describe()
    given = [
        "--seed",
        "3",
        "--threads",
        "2",
        "--epochs",
        "9",
        "--kind",
        "two words",
        "--deep",
        "--no-mix",
        "--sizes",
        "4",
        "5",
    ]
    said = describe(*given)
    assert (
        said
        == "python -m m.train --seed 3 --threads 2 --epochs 9 --kind 'two words' --deep --no-mix --sizes 4 5"
    )
    assert vars(parser.parse_args(given)) == vars(
        parser.parse_args([word.strip("'") for word in said.replace("'two words'", "two_words").split()[3:]])
    ) | {"kind": "two words"}


def test_what_it_was_made_of_names_no_folder_of_this_machine(parts: dict[str, Any], tmp_path: Path) -> None:
    made = parts["made"]
    assert made.arguments == {
        "deep": False,
        "epochs": 5,
        "kind": "bag",
        "mix": True,
        "seed": 4,
        "sizes": [1],
        "threads": 0,
    }
    assert made.seed == 4
    assert {"python", "torch", "onnxruntime", "numpy", "cpu"} <= made.environment.keys()
    assert str(tmp_path) not in json.dumps(made.model_dump(mode="json"))


def test_the_digest_of_data_changes_with_any_byte_and_any_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = [tmp_path / "a" / "1.txt", tmp_path / "2.txt"]
    for file in files:
        file.write_text("x")
    first = digest_data("set", files, tmp_path)
    assert digest_data("set", reversed(files), tmp_path) == first
    files[0].write_text("y")
    assert digest_data("set", files, tmp_path).sha256 != first.sha256
    files[0].write_text("x")
    files[0].rename(tmp_path / "a" / "3.txt")
    assert digest_data("set", [tmp_path / "a" / "3.txt", files[1]], tmp_path).sha256 != first.sha256


def test_the_commit_says_whether_the_files_that_matter_differ_from_it(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        settings = ["-c", "user.name=n", "-c", "user.email=e@e"]
        done = subprocess.run(
            ["git", *settings, *words], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout.strip()

    assert read_commit(tmp_path) == ""
    git("init", "-q")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert read_commit(tmp_path, ["a"]) == head
    (tmp_path / "b" / "file").write_text("y")
    assert read_commit(tmp_path, ["a"]) == head
    assert read_commit(tmp_path) == f"{head}+changed"
    (tmp_path / "a" / "new").write_text("not committed")
    assert read_commit(tmp_path, ["a"]) == f"{head}+changed"
