"""Killed, stopped, out of disk: real processes, real signals, a real full disk."""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.training.curves import compare_curves, read_curves
from shared.training.progress import Lines
from tests.training.conftest import ROOT, RunScript
from tests.training.core import train_digits
from tests.training.core.conftest import MODULE

Parse = Callable[..., argparse.Namespace]


@pytest.fixture
def command(data: Path, tmp_path: Path) -> list[str]:
    """What `arguments("--epochs", 5)` parses, as words."""
    fixed = {"data": data, "out": tmp_path / "out", "limit": 300, "threads": 1, "epochs": 5}
    return [word for name, value in fixed.items() for word in (f"--{name}", str(value))]


def test_killed_in_the_middle_of_an_epoch_it_goes_on_with_the_same_curve(
    run_script: RunScript, arguments: Parse, command: list[str], tmp_path: Path
) -> None:
    whole = train_digits.main(arguments("--epochs", 5, "--out", tmp_path / "whole"))
    killed = run_script(MODULE, *command, environ={"DIGITS_KILL_AFTER": "2"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(read_curves(tmp_path / "out/curves.csv")) == 2
    fitted = train_digits.main(train_digits.get_args_parser().parse_args(command))
    assert fitted.resumed_epochs == 2
    assert compare_curves(whole.history, read_curves(tmp_path / "out/curves.csv")) == 0


def test_killed_at_any_moment_it_goes_on_with_the_same_curve(arguments: Parse, tmp_path: Path) -> None:
    whole = train_digits.main(arguments("--epochs", 8, "--out", tmp_path / "whole"))
    # Forked: a start of its own takes seconds, most of which nothing would be killed in.
    forking = multiprocessing.get_context("fork")
    rng = random.Random(0)
    kills = 0
    for _ in range(12):
        process = forking.Process(target=train_digits.main, args=(arguments("--epochs", 8),))
        process.start()
        process.join(rng.uniform(0.02, whole.duration_s / 4))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join(30)
    fitted = train_digits.main(arguments("--epochs", 8))
    assert kills >= 4
    assert compare_curves(whole.history, fitted.history) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".lock",
        "best.pt",
        "curves.csv",
        "last.pt",
        "result.json",
    }


def test_stopped_it_says_so_and_keeps_what_was_reached(command: list[str], tmp_path: Path) -> None:
    def begin(out: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, *command, f"--out={out}"],
            cwd=ROOT,
            env={**os.environ, "DIGITS_PAUSE_AFTER": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    # Both at once: most of the time is spent starting.
    stops = [(signal.SIGINT, 130, tmp_path / "int"), (signal.SIGTERM, 143, tmp_path / "term")]
    with contextlib.ExitStack() as ending:
        processes = [begin(out) for _, _, out in stops]
        for process in processes:
            ending.callback(process.kill)
        for process, (number, code, out) in zip(processes, stops, strict=True):
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
            # Where nobody watches there are lines and no bar: the run, one epoch, the pause.
            assert lines[0].startswith("digits-8x8: seed 0, cpu, fp32, 1 process of 1 thread, in ")
            assert lines[1].startswith("epoch 1/5  learning_rate ")
            assert lines[2] == "paused\n"
            process.send_signal(number)
            rest, problems = process.communicate(timeout=100)
            assert process.returncode == code, problems
            assert problems == ""
            assert (
                rest == f"stopped; what was reached is kept in {out}: the same command goes on from there\n"
            )
            assert len(read_curves(out / "curves.csv")) == 1


def test_a_disk_that_fills_up_takes_nothing(arguments: Parse, command: list[str], tmp_path: Path) -> None:
    if not shutil.which("unshare"):
        pytest.skip(
            "no `unshare` here: a small disk needs a mount of its own (RLIMIT_FSIZE stands in, in test_fit)"
        )
    whole = train_digits.main(arguments("--epochs", 5, "--out", tmp_path / "whole"))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=256k tmpfs "$1" && exec "$2" -m tests.training.core.full_disk "${@:3}"'
    done = subprocess.run(
        [
            "unshare",
            "-Urm",
            "bash",
            "-c",
            script,
            "bash",
            disk,
            sys.executable,
            disk,
            tmp_path / "curves.csv",
            *command,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    if "unshare failed" in done.stderr or "permission denied" in done.stderr:
        pytest.skip(f"no mounts without privileges here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (
        "last.pt and best.pt of before still there: make room and run the same command again" in done.stdout
    )
    assert "No space left on device (0.0 MB free)" in done.stdout
    assert "going on after epoch 2, from" in done.stdout
    assert compare_curves(whole.history, read_curves(tmp_path / "curves.csv")) == 0


def test_on_a_terminal_a_bar_moves() -> None:
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as file:
        lines = Lines(file=file)
        for n in lines.track(range(3), "epoch 7", 3):
            lines.say(f"item {n}")
        os.set_blocking(controller, False)
        shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert "epoch 7" in shown
    assert "━" in shown
    assert "item 2" in shown
    assert "\x1b[?25l" in shown


def test_in_a_pipe_there_are_lines_only_and_from_the_first_process_only() -> None:
    file = io.StringIO()
    lines = Lines(file=file)
    assert list(lines.track(range(3), "epoch 7")) == [0, 1, 2]
    lines.say("[bold]as it is[/bold]")
    assert file.getvalue() == "[bold]as it is[/bold]\n"
    silent = Lines(file=file, silent=True)
    silent.say("nothing")
    assert list(silent.track([1], "x")) == [1]
    assert file.getvalue() == "[bold]as it is[/bold]\n"
