"""The recipes, run as users run them, on a few real pictures: what they leave, two processes, bad folders."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from services.vision.decode import decode
from services.vision.rpc.classifier import CLASSIFIERS
from services.vision.training import finetune_images, release_digits, train_digits, train_images
from services.vision.training.data.emoji import CLASSES, write_folder
from shared.inference.artifact import read_artifact, verify
from shared.inference.heldout import read_heldout
from shared.training.compression.pareto import read_points
from shared.training.curves import compare_curves, read_curves
from shared.training.errors import DataError
from tests.training.conftest import RunScript

DIGITS = "services.vision.training.train_digits"
IMAGES = "services.vision.training.train_images"


def test_digits_learn_in_a_minute(datasets: Path, tmp_path: Path) -> None:
    result = train_digits.run_once(1, datasets, tmp_path / "out", limit=1500)
    # By chance .1; a short training on 1,100 pictures is far from the .99 of the whole.
    assert result["accuracy"] > 0.5
    assert result["fold"] == 1
    assert result["items"] == len(result["labels"]) == len(result["predictions"]) == 300
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert kept == result
    with np.load(tmp_path / "out" / "answers.npz") as answers:
        assert answers["logits"].shape == (300, 10)
        assert answers["logits"].argmax(axis=1).tolist() == result["predictions"]


def check_served(folder: Path, classes: tuple[str, ...], side: int) -> None:
    """What a run leaves is whole, and ClassifyImage can take it."""
    artifact = read_artifact(folder)
    verify(artifact)
    classifier = CLASSIFIERS[artifact.preprocessing](artifact)
    assert classifier.labels == classes
    row = classifier.preparation.prepare(Image.new("RGB", (90, 70), (200, 40, 40)), "images[0].content")
    assert row.shape == (1, 3, side, side)
    session = onnxruntime.InferenceSession(artifact.graph_file("model"), providers=["CPUExecutionProvider"])
    assert session.run(["logits"], {"image": row})[0].shape == (1, len(classes))
    assert artifact.manifest.quality.metrics["accuracy"].value > 0.2
    assert str(folder.parents[2]) not in (folder / "artifact.json").read_text()


def test_the_digits_artifact_with_every_smaller_form(
    datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = release_digits.get_args_parser().parse_args(
        [
            "--data",
            str(datasets),
            "--limit",
            "400",
            "--epochs",
            "3",
            "--out",
            str(tmp_path / "run"),
            "--into",
            str(tmp_path / "tree"),
        ]
    )
    artifact = release_digits.main(arguments)
    assert artifact is not None
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("digits: seed 0") for line in lines) == 1
    assert any(line.startswith("--limit: the held-out pictures are not kept") for line in lines)
    assert "held-out pictures right as it would be served (95 %: " in lines[-2]
    assert lines[-1] == (
        f"not served yet: {artifact.folder}; to serve it: sensorium models promote digits {artifact.folder}"
    )
    assert artifact.folder == tmp_path / "tree" / "digits" / "1"
    verify(artifact)
    assert CLASSIFIERS[artifact.preprocessing](artifact).labels == tuple("0123456789")
    assert "train_digits" not in artifact.manifest.made.command
    assert artifact.manifest.made.command.startswith("python -m services.vision.training.release_digits --")
    points = {point.name: point for point in read_points(tmp_path / "run" / "pareto.json")}
    assert points["int8 weights"].bytes * 3 < points["float32"].bytes
    assert (
        points["half the width, distilled"].bytes
        < points["half the inner channels"].bytes
        < points["int8 weights"].bytes
    )
    assert [point.chosen for point in points.values()].count(True) == 1
    assert "| **this model** |" in (artifact.folder / "card.md").read_text()


def test_two_processes_give_the_curve_of_one(run_script: RunScript, datasets: Path, tmp_path: Path) -> None:
    options = ["--data", datasets, "--limit", 200, "--epochs", 2, "--threads", 1, "--dropout", 0.2, "--out"]
    argv = [str(option) for option in (*options, tmp_path / "1")]
    one = train_digits.main(train_digits.get_args_parser().parse_args(argv)).fitted.history
    done = run_script(DIGITS, *options, tmp_path / "2", processes=2)
    assert done.returncode == 0, done.stderr
    two = read_curves(tmp_path / "2" / "curves.csv")
    assert len(one) == 2
    assert compare_curves(one, two) < 1e-3


@pytest.mark.parametrize("network", ["cnn", "residual"])
def test_any_folder_from_scratch(
    tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(tmp_path / "state"))
    rng = np.random.default_rng(0)
    for name, color in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(20):
            pixels = rng.normal(color, 40, (30, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    arguments = train_images.get_args_parser().parse_args(
        ["--pictures", str(tmp_path / "photos"), "--side", "16", "--network", network, "--width", "8",
         "--epochs", "6", "--batch-size", "8", "--out", str(tmp_path / "out"), "--name", "two-colors"]
    )  # fmt: skip
    trained = train_images.main(arguments)
    assert trained.sets.classes == ("blue", "red")
    assert (trained.logits.argmax(axis=1) == trained.sets.held_out.labels.numpy()).all()
    kept = json.loads((tmp_path / "out" / "result.json").read_text())
    assert kept["accuracy"] == 1
    assert kept["side"] == 16
    folder = tmp_path / "out" / "artifact" / "two-colors" / "1"
    check_served(folder, ("blue", "red"), 16)
    # Eight pictures to judge by and few to tune on: said, and the scores are left alone.
    printed = capsys.readouterr().out
    assert "held out: 1.0000 of 8 right (95 %: 0.676 to 1.000)" in printed
    assert "warning: of 8 pictures the accuracy is not known better than from 0.68 to 1.00" in printed
    assert "no temperature is fitted: 4 pictures to tune on, 50 are needed" in printed
    assert kept["temperature"] == 1
    assert "no temperature was fitted" in (folder / "card.md").read_text()
    assert printed.splitlines()[-1].endswith(f"sensorium models promote vision/two-colors {folder}")
    # What is kept for comparisons is what the artifact was measured on, as serving will see it.
    held_out = read_heldout(tmp_path / "state" / "heldout" / "vision" / "two-colors")
    stated = read_artifact(folder).manifest.quality.held_out
    assert stated is not None
    assert (stated.sha256, stated.items) == (held_out.sha256, len(held_out.items)) == (held_out.sha256, 8)
    assert {item.label for item in held_out.items} == {"blue", "red"}
    first = decode(held_out.items[0].content or b"", field="first", max_pixels=1000)
    assert (np.asarray(first.image) == trained.sets.held_out.images[0].permute(1, 2, 0).numpy()).all()


def test_the_backbone_learns_emoji(datasets: Path, tmp_path: Path) -> None:
    arguments = finetune_images.get_args_parser().parse_args(
        ["--data", str(datasets), "--limit", "72", "--side", "64", "--epochs", "4", "--frozen-epochs", "3",
         "--learning-rate", "0.01", "--batch-size", "16", "--out", str(tmp_path / "out")]
    )  # fmt: skip
    trained = finetune_images.main(arguments)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    # By chance .11; of each class eight pictures were seen, by another artist.
    assert result["accuracy"] > 0.3
    assert result["classes"] == list(CLASSES)
    assert len(trained.fitted.history) == 4
    check_served(tmp_path / "out" / "artifact" / "out" / "1", tuple(CLASSES), 64)


def test_emoji_to_learn_from_and_to_judge_by_share_nothing(datasets: Path, tmp_path: Path) -> None:
    sizes = write_folder(datasets / "emoji" / "package", tmp_path)
    train, held_out = (
        {path.relative_to(tmp_path / part) for path in (tmp_path / part).rglob("*.png")}
        for part in ("train", "held_out")
    )
    assert sizes == {"train": len(train), "held_out": len(held_out)}
    assert min(sizes.values()) > 200
    assert not train & held_out
    with pytest.raises(DataError, match="sensorium data pull emoji"):
        write_folder(tmp_path / "nothing", tmp_path / "out")


def test_what_is_missing_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    arguments = finetune_images.get_args_parser().parse_args(
        ["--data", str(tmp_path), "--pictures", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(DataError, match="run `sensorium data pull efficientnet`"):
        finetune_images.main(arguments)


@pytest.mark.parametrize("name", ["../up", "", "a b", "-x"])
def test_a_name_that_no_model_can_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_images.get_args_parser().parse_args([f"--name={name}"])
    assert "expected a name of letters, digits, dots and dashes" in capsys.readouterr().err


def test_bad_folders_end_in_one_line(run_script: RunScript, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_script(IMAGES, "--pictures", tmp_path / "empty", "--out", tmp_path / "out")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"error: {tmp_path / 'empty'}: expected folders of images, got no image; give one folder"
    )
    arguments = train_digits.get_args_parser().parse_args(
        ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    )
    with pytest.raises(DataError, match="run `sensorium data pull mnist`"):
        train_digits.main(arguments)
