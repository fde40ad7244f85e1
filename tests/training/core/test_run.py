"""How a script begins and ends: folder, device, signals, exit codes."""

from __future__ import annotations

import argparse
import errno
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.training.arguments import make_parser
from shared.training.errors import DataError, TrainingError
from shared.training.provenance import ROOT
from shared.training.run import Run, describe_command, launch, start

PARSER = make_parser("A test.", epochs=1, batch_size=1, learning_rate=1)


def parse(*words: object) -> argparse.Namespace:
    return PARSER.parse_args(["--device", "cpu", "--threads", "1", *map(str, words)])


def exit_code(main: Callable[[argparse.Namespace], object]) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        launch(main, PARSER, [])
    return ended.value.code


def fail(error: BaseException) -> Callable[[argparse.Namespace], object]:
    def main(arguments: argparse.Namespace) -> None:
        raise error

    return main


def test_a_script_ends_with_a_code_that_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda arguments: "whatever it returns") == 0
    assert exit_code(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""
    assert exit_code(fail(DataError("a.csv", expected="two labels", got="one", advice="look"))) == 1
    assert capsys.readouterr().err == "error: a.csv: expected two labels, got one; look\n"
    assert exit_code(fail(OSError(errno.ENOSPC, "No space left on device", "results.json"))) == 1
    text = "error: results.json: cannot be written: No space left on device; make room and run the same command again\n"
    assert capsys.readouterr().err == text
    assert exit_code(fail(torch.OutOfMemoryError("CUDA out of memory.\nA table."))) == 1
    text = "error: the accelerator is out of memory; lower --batch-size (CUDA out of memory.)\n"
    assert capsys.readouterr().err == text
    with pytest.raises(FileNotFoundError):
        launch(fail(FileNotFoundError(errno.ENOENT, "No such file", "x")), PARSER, [])
    with pytest.raises(ZeroDivisionError):
        launch(fail(ZeroDivisionError()), PARSER, [])


def test_a_reader_that_leaves_is_told_of(tmp_path: Path) -> None:
    code = """
import sys
from shared.training.arguments import make_parser
from shared.training.run import launch, start

def main(arguments):
    with start(arguments, "test") as run:
        while True:
            run.say("line")

parser = make_parser("A test.", epochs=1, batch_size=1, learning_rate=1)
launch(main, parser, ["--device", "cpu", "--threads", "1", "--out", sys.argv[1]])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "out"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 1
    assert (
        said == "error: nobody reads the output any more; the same command goes on from the last checkpoint\n"
    )


def test_without_a_folder_it_is_the_recipe_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = parse()
    with start(arguments, "digits") as run:
        assert run.out == arguments.out == Path("runs/digits")
        assert run.out.is_dir()
        assert (run.rank, run.world, run.is_main) == (0, 1, True)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        TrainingError, match=r"expected a folder to write to, got: (Not a directory|File exists)"
    ):
        start(parse("--out", tmp_path / "file"), "test")


def test_more_threads_than_torch_survives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--threads: expected at most 1024, got 1000000"):
        start(parse("--out", tmp_path, "--threads", 1_000_000), "test")


def test_a_place_among_processes_that_is_no_number_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(
        TrainingError, match="WORLD_SIZE: expected a whole number, as torchrun sets it, got 'two'"
    ):
        start(parse("--out", tmp_path), "test")


def test_half_the_width_on_a_processor_is_told_to_be_slow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(parse("--out", tmp_path, "--precision", "bf16"), "test"):
        assert "bf16 is for GPUs: most processors are far slower with it" in capsys.readouterr().out


def test_a_missing_dataset_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "data/mnist").mkdir(parents=True)
    with start(parse("--out", tmp_path / "out", "--data", tmp_path / "data"), "test") as run:
        assert run.dataset("mnist") == tmp_path / "data/mnist"
        with pytest.raises(
            DataError, match="the dataset `vader`, got no such folder; run `sensorium data pull vader`"
        ):
            run.dataset("vader")


def test_it_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = (signal.getsignal(signal.SIGTERM), torch.are_deterministic_algorithms_enabled())
    run = start(parse("--out", tmp_path), "test")
    assert torch.are_deterministic_algorithms_enabled()
    assert signal.getsignal(signal.SIGTERM) is not before[0]
    run.close()
    run.close()
    assert (signal.getsignal(signal.SIGTERM), torch.are_deterministic_algorithms_enabled()) == before


def test_it_runs_in_any_thread(tmp_path: Path) -> None:
    found: list[Run] = []

    def begin() -> None:
        with start(parse("--out", tmp_path), "test") as run:
            found.append(run)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(30)
    assert found[0].out == tmp_path


def test_threads_are_set(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        with start(parse("--out", tmp_path, "--threads", 2), "test"):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_weights_begin_the_same_for_a_seed(tmp_path: Path) -> None:
    def begin(seed: int) -> torch.Tensor:
        with start(parse("--out", tmp_path, "--seed", seed), "test"):
            return torch.nn.Linear(3, 3).weight.detach()

    assert torch.equal(begin(1), begin(1))
    assert not torch.equal(begin(1), begin(2))


def test_a_command_is_recorded_as_it_can_be_repeated() -> None:
    command = describe_command("services.nlp.training.train_topics", ["--out", "my runs", "--seed", "3"])
    assert command == "python -m services.nlp.training.train_topics --out 'my runs' --seed 3"
