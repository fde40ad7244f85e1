"""The recipes in short forms: real recordings, a few steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.speech.training import train_commands, train_sounds
from shared.training.errors import CheckpointError, DataError, DivergedError

TRAIN_COMMANDS = "services.speech.training.train_commands"


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A folder in Speech Commands' format: `up` and `down` are tones that glide, by speakers of many pitches."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    time_s = np.arange(8_000) / 16_000
    for word, direction in (("up", 1), ("down", -1)):
        (folder / word).mkdir()
        for speaker in range(12):
            start_hz = rng.uniform(900, 1_100)
            phase = 2 * np.pi * (start_hz * time_s + direction * 1_400 * np.square(time_s) / 2)
            samples = 0.3 * np.sin(phase) + 0.003 * rng.standard_normal(len(time_s))
            soundfile.write(folder / word / f"{speaker:08x}_nohash_0.wav", samples, 16_000)
    lists = {"validation_list.txt": (8, 9), "testing_list.txt": (10, 11)}
    for name, speakers in lists.items():
        lines = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("up", "down") for speaker in speakers]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def read(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def train_commands_with(*options: object) -> train_commands.Trained:
    return train_commands.main(
        train_commands.get_args_parser().parse_args([str(option) for option in options])
    )


def test_learns_a_folder_of_words_and_goes_on(words, tmp_path, capsys):
    options = (
        "--folders",
        words,
        "--body",
        "gru",
        "--width",
        4,
        "--items",
        128,
        "--smoothing",
        0,
        "--out",
        tmp_path,
    )
    train_commands_with(*options, "--epochs", 2)
    trained = train_commands_with(*options, "--epochs", 6)
    assert "going on after epoch 2" in capsys.readouterr().out
    assert trained.fitted.resumed_epochs == 2
    losses = [row["train_loss"] for row in trained.fitted.history]
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]
    result = read(tmp_path)
    assert result["labels"] == ["down", "up"]
    assert len(result["rows"]) == 4
    assert sum(row["answer"] == row["label"] for row in result["rows"]) >= 3


def test_other_words_in_the_same_folder_are_another_training(words, tmp_path):
    own = tmp_path / "words"
    shutil.copytree(words, own)
    options = ("--folders", own, "--body", "gru", "--width", 4, "--items", 64, "--out", tmp_path / "out")
    train_commands_with(*options, "--epochs", 1)
    (own / "down").rename(own / "zdown")
    for name in ("validation_list.txt", "testing_list.txt"):
        (own / name).write_text((own / name).read_text().replace("down/", "zdown/"))
    with pytest.raises(CheckpointError, match="a training on other data"):
        train_commands_with(*options, "--epochs", 2)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-3), ("fp64", 1e-6)])
def test_two_processes_give_the_curve_of_one(run_script, words, tmp_path, precision, most):
    options = (
        "--precision",
        precision,
        "--folders",
        words,
        "--body",
        "gru",
        "--width",
        4,
        "--items",
        32,
        "--epochs",
        2,
        "--batch-size",
        8,
    )
    train_commands_with(*options, "--out", tmp_path / "of-1")
    done = run_script(TRAIN_COMMANDS, *options, "--out", tmp_path / "of-2", processes=2)
    assert done.returncode == 0, done.stderr
    one, two = (
        np.genfromtxt(tmp_path / f"of-{processes}" / "curves.csv", delimiter=",", names=True)["train_loss"]
        for processes in (1, 2)
    )
    assert np.abs(one - two).max() < most


def test_a_voice_left_out_is_judged_by_and_not_heard(datasets, tmp_path, capsys):
    options = ("--engines", "", "--leave-out", "carlo", "--limit", 32, "--epochs", 1, "--body", "dnn")
    trained = train_commands_with(*options, "--out", tmp_path)
    assert {clip.voice for clip in trained.data.train}.isdisjoint(
        {"carlo", "colombia", "klettres-fr", "cards"}
    )
    rows = read(tmp_path)["rows"]
    assert {row["voice"] for row in rows if row["source"].startswith("asterisk")} == {"carlo", "colombia"}
    assert sum(row["label"].startswith("it:") and row["voice"] == "carlo" for row in rows) == 36
    assert "carlo it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--leave-out", "nobody"), "expected voices among"),
        (("--data", "/nowhere"), "sensorium data pull asterisk-en"),
        (("--folders", "/nowhere"), "no such folder"),
    ],
)
def test_what_cannot_be_trained_on(tmp_path, options, told):
    with pytest.raises(DataError, match=told):
        train_commands_with(*options, "--out", tmp_path)


def test_a_loss_that_is_no_number_says_what_to_do(words, tmp_path):
    options = (
        "--folders",
        words,
        "--body",
        "dnn",
        "--items",
        32,
        "--out",
        tmp_path,
        "--learning-rate",
        "1e30",
    )
    with pytest.raises(DivergedError, match="Start again with --fresh and a --learning-rate below"):
        train_commands_with(*options, "--epochs", 3)


def test_kinds_of_sound(datasets, tmp_path):
    result = train_sounds.run_once(1, datasets, tmp_path, limit=40)
    assert {row["label"] for row in result["rows"]} == {"speech", "music", "noise"}
    assert result["fold"] == 1
    answers = np.load(tmp_path / "answers.npz")
    assert answers["logits"].shape == (sum(row["windows"] for row in result["rows"]), 3)
    # What is held out was not learned from.
    assert "colombia" in {row["voice"] for row in result["rows"]}
