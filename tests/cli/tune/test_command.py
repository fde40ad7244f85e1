"""`sensorium models tune` as its user meets it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli.__main__ import main
from cli.place import ROOT
from shared.inference.artifact import write_artifact
from shared.inference.settings import InferenceSettings
from shared.inference.tuning.record import TunedFolder
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.signing import sign_models

QUICK = ["--rounds", "1", "--window", "0.05", "--cores", "2", "--latency-target", "2s"]
WAIT_S = 60


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with one model, which is in no catalogue."""
    folder = tmp_path / "state"
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    for version in ("9", "10"):
        entry = entry_of("linear", version, service="nlp")
        write_artifact(folder / "models" / "nlp", entry, draft_of(linear(max_batch_size=2)))
    sign_models(folder)
    return folder


def test_it_keeps_the_best_prints_a_table_and_draws_it(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "tune", "linear", *QUICK]) == 0
    printed = capsys.readouterr()
    assert "THREADS  INSTANCES  BATCH  ITEMS/S" in printed.out
    assert " best\n" in printed.out
    assert "best within 2000 ms: batch" in printed.out
    assert "batch 1, 1 thread, 2 instances: " in printed.err
    (tuned,) = TunedFolder(state).list_all("linear")
    # The newest version, not the last by letters.
    assert (tuned.model, tuned.version) == ("nlp/linear", "10")
    (drawing,) = (state / "tuned").glob("*.svg")
    root = ElementTree.fromstring(drawing.read_text())
    dots = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(dots) == len(tuned.candidates) + 1


def test_json_shows_and_forgets(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "tune", "nlp/linear", "--json", *QUICK]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["model"] == "nlp/linear"
    assert found["latency_target_s"] == 2.0
    assert Path(found["file"]).is_file()
    assert main(["models", "tune", "linear", "--show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["best"] == found["best"]
    assert shown["holds_here"] is True
    assert main(["models", "tune", "linear", "--show"]) == 0
    assert "nlp/linear 10 on CPUExecutionProvider, 2 cores" in capsys.readouterr().out
    assert main(["models", "tune", "linear", "--forget", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "linear", "forgotten": 1}
    assert list((state / "tuned").iterdir()) == []
    assert main(["models", "tune", "linear", "--show"]) == 1
    assert main(["models", "tune", "linear", "--forget"]) == 1


def test_what_serves_reads_is_what_was_kept(state: Path) -> None:
    assert main(["models", "tune", "linear", *QUICK]) == 0
    (tuned,) = TunedFolder(state).list_all("linear")
    assert TunedFolder(state).find("linear", tuned.digest, "CPUExecutionProvider") == tuned
    assert TunedFolder(state).find("linear", "sha256:other", "CPUExecutionProvider") is None
    assert TunedFolder(state).find("linear", tuned.digest, "CUDAExecutionProvider") is None
    own = InferenceSettings(cores=2).for_model("linear", tuned.best.values)
    assert own.max_batch_size == tuned.best.values.max_batch_size


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["other"], 1, "no model 'other' is pulled in .*; there are: nlp/linear"),
        (["vision/linear"], 1, "no model 'vision/linear'"),
        (
            ["linear", "--latency-target", "soon"],
            2,
            "expected a time up to 60s with its unit, e.g. 50ms, got 'soon'",
        ),
        (["linear", "--latency-target", "50"], 2, "with its unit, e.g. 50ms, got '50'"),
        (["linear", "--latency-target", "0ms"], 2, "expected a time"),
        (["linear", "--show", "--forget"], 2, "exclude each other"),
        (["linear", *QUICK, "--latency-target", "0.1us"], 1, "nearest: batch 1, .* nothing was kept"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(["models", "tune", *arguments]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("sensorium: ")
    assert re.search(message, last), last
    assert not (state / "tuned").exists()


def test_a_name_that_two_services_have_must_be_said_in_full(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = entry_of("linear", service="vision")
    write_artifact(state / "models" / "vision", entry, draft_of(linear()))
    assert main(["models", "tune", "linear"]) == 2
    assert "'linear' may be nlp/linear or vision/linear; say which" in capsys.readouterr().err


def test_a_damaged_model_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "models" / "nlp" / "linear" / "10" / "model.onnx").write_bytes(b"no graph")
    assert main(["models", "tune", "linear", *QUICK]) == 1
    assert "nlp/linear cannot be loaded: model.onnx: expected " in capsys.readouterr().err


def test_what_the_environment_says_is_stronger_and_that_is_said(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENSORIUM_NLP_INFERENCE__INSTANCES", "1")
    monkeypatch.setenv("SENSORIUM_NLP_BOUNDS__MAX_ITEMS", "3")
    assert main(["models", "tune", "linear", *QUICK]) == 0
    assert "sensorium: instances is set in the environment" in capsys.readouterr().err


def test_a_mesh_that_runs_beside_it_is_told_of(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "run").mkdir()
    with (state / "run" / "up.lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["models", "tune", "linear", *QUICK]) == 0
    assert f"a mesh (pid 4711) runs from {state}" in capsys.readouterr().err
    assert main(["models", "tune", "linear", *QUICK]) == 0
    assert "a mesh" not in capsys.readouterr().err


def test_ctrl_c_stops_it_and_keeps_nothing(state: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "models", "tune", "linear", "--rounds", "100", "--window", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        # The first measurement is done.
        assert process.stderr.readline().startswith("batch 1")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "sensorium: stopped; nothing was kept" in errors
    assert "Traceback" not in errors
    assert not (state / "tuned").exists()
