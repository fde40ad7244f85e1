"""The recipes in short forms, as users start them: real recordings, a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

TRAIN_COMMANDS = "services.speech.training.train_commands"
TRAIN_SOUNDS = "services.speech.training.train_sounds"


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """A folder in Speech Commands' format: `low` and `high` are tones, by speakers who hum around them."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    time = np.arange(8_000) / 16_000
    for word, hz in (("low", 300), ("high", 1_500)):
        (folder / word).mkdir()
        for speaker in range(12):
            samples = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time)
            samples += 0.003 * rng.standard_normal(len(time))
            soundfile.write(folder / word / f"{speaker:08x}_nohash_0.wav", samples, 16_000)
    lists = {"validation_list.txt": (8, 9), "testing_list.txt": (10, 11)}
    for name, speakers in lists.items():
        lines = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("low", "high") for speaker in speakers]
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def read(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def test_learns_a_folder_of_words_and_goes_on(run_script, words, tmp_path):
    options = ("--folders", words, "--body", "cnn", "--width", 4, "--items", 64, "--smoothing", 0)
    for epochs in (2, 4):
        done = run_script(TRAIN_COMMANDS, *options, "--epochs", epochs, "--out", tmp_path / "run")
        assert done.returncode == 0, done.stderr
    assert "going on after epoch 2" in done.stdout
    result = read(tmp_path / "run")
    assert result["labels"] == ["high", "low"]
    assert len(result["rows"]) == 4
    assert [row["answer"] for row in result["rows"]] == [row["label"] for row in result["rows"]]


def test_two_processes_give_the_curve_of_one(run_script, words, tmp_path):
    options = (
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
    curves = {}
    for processes in (1, 2):
        out = tmp_path / f"of-{processes}"
        done = run_script(TRAIN_COMMANDS, *options, "--out", out, processes=processes)
        assert done.returncode == 0, done.stderr
        curves[processes] = np.genfromtxt(out / "curves.csv", delimiter=",", names=True)["train_loss"]
    assert np.abs(curves[1] - curves[2]).max() < 1e-3


def test_a_voice_left_out_is_judged_by_and_not_heard(run_script, datasets, tmp_path):
    options = ("--engines", "", "--leave-out", "carlo", "--limit", 32, "--epochs", 1, "--body", "dnn")
    done = run_script(TRAIN_COMMANDS, *options, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path)["rows"]
    assert {row["voice"] for row in rows if row["source"].startswith("asterisk")} == {"carlo", "colombia"}
    assert sum(row["label"].startswith("it:") and row["voice"] == "carlo" for row in rows) == 36
    assert "carlo it" in done.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--leave-out", "nobody"), "expected voices among"),
        (("--data", "/nowhere"), "sensorium data pull asterisk-en"),
        (("--folders", "/nowhere"), "no such folder"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line(run_script, tmp_path, options, told):
    done = run_script(TRAIN_COMMANDS, *options, "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_kinds_of_sound(run_script, datasets, tmp_path):
    done = run_script(
        TRAIN_SOUNDS,
        "--limit",
        40,
        "--items",
        40,
        "--epochs",
        1,
        "--width",
        4,
        "--fold",
        1,
        "--out",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    result = read(tmp_path)
    assert {row["label"] for row in result["rows"]} == {"speech", "music", "noise"}
    assert result["fold"] == 1
    answers = np.load(tmp_path / "answers.npz")
    assert answers["logits"].shape == (sum(row["windows"] for row in result["rows"]), 3)
