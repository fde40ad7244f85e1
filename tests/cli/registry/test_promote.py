"""`sensorium models promote` and `rollback`: who is let in, who is not and why, and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cli.place import ROOT
from cli.registry.history import History
from cli.registry.key import own_trust
from shared.inference.artifact import read_artifact, verify
from shared.inference.signature import check_signature
from tests.cli.registry.conftest import BLIND, MODEL, TURNED, Shop, make_candidate
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.artifact_copy import flip_bit
from tests.support.signing import sign_models

LIMIT_S = 90
STATED = {"accuracy": 0.5, "robustness": 0.4, "macro_f1": 1.0}


def test_a_candidate_becomes_the_next_version(shop: Shop, tmp_path: Path) -> None:
    sha256 = shop.hold_out()
    stated = {"value": 1.0, "low": 0.98, "high": 1.0}
    candidate = make_candidate(
        tmp_path / "run",
        held_out={"name": "moods-test", "sha256": sha256, "items": 800},
        metrics={"accuracy": stated},
        gates={"accuracy": {"min": 0.9}},
    )
    code, said = shop.run_json("promote", MODEL, str(candidate.folder))
    assert (code, said["promoted"], said["version"], said["serving"]) == (0, True, "2", "1")
    assert {gate["gate"]: gate["verdict"] for gate in said["gates"]} == dict.fromkeys(
        ["digests", "signature", "golden answers", "stated accuracy", "accuracy", "not worse"], "passed"
    )
    assert said["paired"]["items"] == 800
    made = read_artifact(shop.folder / "2")
    verify(made)
    assert check_signature(made, own_trust(shop.state))
    assert made.manifest.quality == candidate.manifest.quality
    assert not (candidate.folder / "signature.jws").exists()
    (record,) = shop.history()
    assert (record["event"], record["version"], record["digest"]) == ("promoted", "2", made.digest)
    assert record["from"] == str(candidate.folder)
    assert "@" in record["who"]
    assert shop.versions == ["1", "2"]
    _, table, _ = shop.run("history", "moods")
    assert "promote: promoted" in table


def test_a_worse_one_is_refused_and_recorded(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "run", TURNED)
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder), "--accept-undecided")
    assert code == 1
    assert "points that may be lost: -100.00 points on 800 items" in out
    assert shop.versions == ["1"]
    (record,) = shop.history()
    assert (record["event"], record["paired"]["lost"]) == ("refused", 800)


def test_a_dry_run_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "run")
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder), "--dry-run")
    assert (code, shop.versions, shop.history()) == (0, ["1"], [])
    assert "it would be promoted" in out


def test_few_items_do_not_tell(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out(24)
    candidate = make_candidate(tmp_path / "run")
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder))
    assert code == 3
    assert "a loss of 0.5 points cannot be ruled out" in out
    assert shop.versions == ["1"]
    code, said = shop.run_json("promote", MODEL, str(candidate.folder), "--accept-undecided")
    assert (code, said["version"]) == (0, "2")
    assert shop.history()[-1]["accepted_undecided"]


def test_a_loss_within_the_margin_is_let_in_and_said(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "run", BLIND)
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder), "--dry-run")
    assert code == 1
    assert "it is worse, by more than the 0.5 points that may be lost: -" in out
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder), "--margin", "0.5")
    assert code == 0
    assert "it is worse, by less than the 50 points that may be lost: -" in out
    assert shop.history()[-1]["margin"] == 0.5


def test_what_serves_already_is_not_worse_than_itself(shop: Shop, tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path / "run", MOODS)
    code, said = shop.run_json("promote", MODEL, str(candidate.folder))
    assert (code, said["version"]) == (0, "2")
    reason = "its files are those of version 1, which serves"
    assert said["gates"][-1] == {"gate": "not worse", "verdict": "passed", "reason": reason}


def test_without_held_out_items_nothing_is_known(shop: Shop, tmp_path: Path) -> None:
    candidate = make_candidate(tmp_path / "run")
    code, out, _ = shop.run("promote", MODEL, str(candidate.folder), "--dry-run")
    assert code == 3
    assert "there are no held-out items to compare it on" in out


def test_gates_that_do_not_hold(shop: Shop, tmp_path: Path) -> None:
    candidate = make_candidate(
        tmp_path / "run",
        held_out={"name": "moods-test", "sha256": shop.hold_out(), "items": 800},
        metrics={name: {"value": value, "low": 0.0, "high": 1.0} for name, value in STATED.items()},
        gates={"accuracy": {"min": 1.01}, "robustness": {"min": 0.5}, "macro_f1": {"max": 0.9}},
    )
    code, said = shop.run_json("promote", MODEL, str(candidate.folder), "--dry-run")
    assert code == 1
    failed = {found["gate"]: found["reason"] for found in said["gates"] if found["verdict"] == "failed"}
    assert failed.keys() == {"stated accuracy", "accuracy", "robustness", "macro_f1"}
    assert "artifact.json states accuracy 0.5000" in failed["stated accuracy"]
    # What was measured just now, not what is stated.
    assert "at least 1.01 (agreed for this version), got 1.0000" in failed["accuracy"]
    assert "got 0.4000" in failed["robustness"]


def test_what_is_damaged_or_signed_by_a_stranger_is_not_even_run(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "models" / "nlp")
    sign_models(tmp_path)
    code, said = shop.run_json("promote", MODEL, str(candidate.folder))
    assert code == 1
    assert [gate["verdict"] for gate in said["gates"]] == ["passed", "failed"]
    assert "which is not trusted" in said["gates"][1]["reason"]
    # Whoever trusts that key may promote it, and signs for himself.
    code, said = shop.run_json(
        "promote",
        MODEL,
        str(candidate.folder),
        "--dry-run",
        "--trusted",
        str(tmp_path / "keys/artifacts/jwks.json"),
    )
    assert code == 0
    flip_bit(candidate.folder)
    code, said = shop.run_json("promote", MODEL, str(candidate.folder))
    assert code == 1
    assert "model.onnx: expected sha256" in said["gates"][0]["reason"]
    assert shop.versions == ["1"]


def test_one_that_does_not_give_its_golden_answers(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    whole, turned = make_candidate(tmp_path / "whole"), make_candidate(tmp_path / "turned", TURNED)
    from tests.support.artifact_copy import replace_file

    replace_file(whole.folder, "golden.npz", (turned.folder / "golden.npz").read_bytes())
    code, said = shop.run_json("promote", MODEL, str(whole.folder))
    assert code == 1
    assert said["gates"][-1]["gate"] == "golden answers"
    assert "from the golden output" in said["gates"][-1]["reason"]


def test_a_rollback_brings_back_what_was(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    train(shop.state / "models" / "nlp", "moods", "ClassifyText", BLIND, WORDS, version="2")
    sign_models(shop.state)
    code, said = shop.run_json("rollback", MODEL)
    assert (code, said["version"]) == (0, "3")
    assert read_artifact(shop.folder / "3").manifest.files == read_artifact(shop.folder / "1").manifest.files
    assert shop.history()[-1]["action"] == "rollback"
    code, _, err = shop.run("rollback", MODEL, "--version", "7")
    assert code == 2
    assert "no version of nlp/moods" in err


def test_of_two_at_once_each_gets_a_version_of_its_own(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out()
    candidate = make_candidate(tmp_path / "run")
    started = [start(shop, "promote", MODEL, str(candidate.folder)) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert shop.versions == ["1", "2", "3"]
    assert [(record["version"], record["serving"]) for record in shop.history()] == [("2", "1"), ("3", "2")]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals, code: int
) -> None:
    scratch = Path(tempfile.mkdtemp())  # not below tmp_path: a socket's path must be short
    monkeypatch.setenv("TMPDIR", str(scratch))
    shop.hold_out(12_000)
    candidate = make_candidate(tmp_path / "run")
    process = start(shop, "promote", MODEL, str(candidate.folder))
    assert process.stderr is not None
    while "asking" not in process.stderr.readline():
        assert process.poll() is None
    (replica,) = children(process.pid)
    process.send_signal(how)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not Path(f"/proc/{replica}").exists()
    assert (shop.versions, shop.history()) == (["1"], [])
    scratch.rmdir()


def test_killed_in_the_middle_it_is_done_or_not(shop: Shop, tmp_path: Path) -> None:
    shop.hold_out(24)
    candidate = make_candidate(tmp_path / "run")
    record = History(shop.state, "nlp", "moods").path
    process = start(shop, "promote", MODEL, str(candidate.folder), "--accept-undecided")
    until_s = time.monotonic() + LIMIT_S
    while not (record.exists() and b'"begun"' in record.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < until_s
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=LIMIT_S)
    for version in [name for name in shop.versions if not name.startswith(".")]:
        verify(read_artifact(shop.folder / version))
    there = "2" in shop.versions
    code, said = shop.run_json("promote", MODEL, str(candidate.folder), "--accept-undecided")
    assert (code, said["version"]) == (0, "3" if there else "2")
    events = [one["event"] for one in shop.history()]
    assert events == ["promoted" if there else "abandoned", "promoted"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["promote", MODEL], "expected either the folder of a candidate or --version"),
        (["promote", MODEL, "somewhere"], "is no version of nlp/moods on disk"),
        (["promote", "nothing", "somewhere"], "no model is called 'nothing'"),
        (["compare", MODEL, "9"], "is no version of nlp/moods on disk"),
    ],
)
def test_a_wrong_command_line(shop: Shop, words: list[str], says: str) -> None:
    code, _, err = shop.run(*words)
    assert code == 2
    assert says in err


def start(shop: Shop, *words: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "models", *words, "--state-dir", str(shop.state)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found
