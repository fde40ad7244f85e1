"""Two processes of torchrun give what one gives."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from shared.training.curves import compare_curves, read_curves
from shared.training.distributed import Average, GlobalBatchNorm, step, wrap
from shared.training.errors import DivergedError
from shared.training.run import Run
from tests.training.conftest import RunScript
from tests.training.core import train_digits
from tests.training.core.conftest import MODULE
from tests.training.core.join_often import RUNS

Parse = Callable[..., argparse.Namespace]
# What is promised; found were differences below 1e-5.
TOLERANCE = 1e-3


def test_two_processes_give_one_s_curve_and_may_be_killed(
    run_script: RunScript, arguments: Parse, data: Path, tmp_path: Path
) -> None:
    alone = train_digits.main(arguments("--epochs", 5, "--out", tmp_path / "alone"))
    out = tmp_path / "out"
    command = ["--data", data, "--out", out, "--limit", 300, "--threads", 1, "--epochs", 5]
    killed = run_script(MODULE, *command, processes=2, environ={"DIGITS_KILL_AFTER": "3"})
    # The other one notices, and says it in a line, unless torchrun stops it before.
    assert killed.returncode == 1
    assert "[rank0]: Traceback" not in killed.stderr
    assert "the processes no longer reach each other" in killed.stderr or "stopped; " in killed.stdout
    reached = read_curves(out / "curves.csv")
    assert len(reached) == 3
    assert compare_curves(alone.history[:3], reached) < TOLERANCE
    assert "2 processes of 1 thread" in killed.stdout
    assert killed.stdout.count("epoch 1/5") == 1
    # One process goes on where two were.
    fitted = train_digits.main(arguments("--epochs", 5))
    assert fitted.resumed_epochs == 3
    assert compare_curves(alone.history, fitted.history) < TOLERANCE


def test_what_processes_share_is_what_one_would_have(run_script: RunScript, tmp_path: Path) -> None:
    done = run_script("tests.training.core.two_processes", "--out", tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    assert "all hold" in done.stdout


def test_processes_find_each_other_in_each_of_several_runs(run_script: RunScript, tmp_path: Path) -> None:
    done = run_script("tests.training.core.join_often", "--out", tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": 3\n") == RUNS
    assert "failed to connect" not in done.stderr


def test_alone_a_step_is_the_plain_one(run: Run) -> None:
    model = wrap(nn.Linear(3, 2), run)
    reference = copy.deepcopy(model)
    x = torch.randn(5, 3)
    loss = step(run, model, torch.optim.SGD(model.parameters(), lr=0.1), model(x).square().sum() / 5)
    expected = reference(x).square().sum() / 5
    expected.backward()
    torch.optim.SGD(reference.parameters(), lr=0.1).step()
    assert loss == expected.item()
    assert torch.equal(model.weight, reference.weight)


def test_a_step_from_a_loss_that_is_no_number_is_not_taken(run: Run) -> None:
    model = wrap(nn.Linear(3, 2), run)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DivergedError, match="the loss became inf"):
        step(run, model, optimizer, model(torch.ones(1, 3)).sum() + float("inf"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_mean_of_nothing_is_no_number(run: Run) -> None:
    assert Average().value(run) != Average().value(run)


def test_converted_it_is_still_the_same_network() -> None:
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4, affine=False))
    )
    plain(torch.randn(8, 3, 6, 6))
    converted = GlobalBatchNorm.convert(copy.deepcopy(plain))
    assert [type(layer) for layer in converted.modules()].count(GlobalBatchNorm) == 2
    assert converted.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(8, 3, 6, 6)
    assert torch.equal(converted(x), plain(x))
    assert torch.equal(converted.eval()(x), plain.eval()(x))
