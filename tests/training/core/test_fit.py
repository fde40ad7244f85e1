"""The loop over epochs, on real digits: it learns, stops, goes on, and says what is wrong."""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.training import checkpoint
from shared.training.curves import compare_curves, read_curves
from shared.training.distributed import wrap
from shared.training.errors import CheckpointError, DivergedError, TrainingError
from shared.training.fit import Fitted, fit
from shared.training.run import Run, start
from tests.training.core import train_digits

Parse = Callable[..., argparse.Namespace]


class Broken(Exception):
    """Ends a training where a test wants it to end."""


def break_after(epochs: int) -> Callable[[], None]:
    """Fails at the end of the epoch after so many."""
    left = [epochs]

    def ending() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Broken

    return ending


def test_it_learns_and_keeps_its_curve(arguments: Parse) -> None:
    parsed = arguments("--limit", 2000, "--epochs", 8)
    fitted = train_digits.main(parsed)
    assert fitted.best["accuracy"] > 0.92
    assert fitted.best_epoch == int(np.argmax([row["valid_accuracy"] for row in fitted.history])) + 1
    assert fitted.best["accuracy"] == fitted.history[fitted.best_epoch - 1]["valid_accuracy"]
    assert not fitted.stopped_early
    assert fitted.resumed_epochs == 0
    assert fitted.duration_s > 0
    assert read_curves(parsed.out / "curves.csv") == fitted.history
    rates = [row["learning_rate"] for row in fitted.history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-5 < rates[0] <= 0.01


def test_the_same_seed_gives_the_same_curve_and_another_one_another(arguments: Parse, tmp_path: Path) -> None:
    one = train_digits.main(arguments("--epochs", 2))
    same = train_digits.main(arguments("--epochs", 2, "--out", tmp_path / "same"))
    other = train_digits.main(arguments("--epochs", 2, "--out", tmp_path / "other", "--seed", 1))
    assert compare_curves(one.history, same.history) == 0
    assert compare_curves(one.history, other.history) > 1e-3


@pytest.mark.parametrize("every", [1, 3])
def test_broken_off_and_started_again_it_gives_the_same_curve(
    arguments: Parse, tmp_path: Path, capsys: pytest.CaptureFixture[str], every: int
) -> None:
    whole = train_digits.main(arguments("--epochs", 6, "--out", tmp_path / "whole"))
    again = arguments("--epochs", 6, "--checkpoint-every", every)
    for _ in range(2):
        with pytest.raises(Broken):
            train_digits.main(again, break_after(2))
    capsys.readouterr()
    fitted = train_digits.main(again)
    assert fitted.resumed_epochs >= 2
    assert f"going on after epoch {fitted.resumed_epochs}, from {again.out}" in capsys.readouterr().out
    assert compare_curves(whole.history, fitted.history) == 0
    assert compare_curves(whole.history, read_curves(again.out / "curves.csv")) == 0
    assert fitted.best == whole.best


def test_what_is_done_is_not_done_again(arguments: Parse, tmp_path: Path) -> None:
    parsed = arguments("--epochs", 3)
    first = train_digits.main(parsed)
    drawn = torch.rand(3)
    second = train_digits.main(parsed, break_after(0))
    # A network that is made next begins with the same weights in both cases.
    assert torch.equal(torch.rand(3), drawn)
    assert second.resumed_epochs == 3
    assert second.history == first.history
    fresh = train_digits.main(arguments("--epochs", 3, "--fresh"))
    assert fresh.resumed_epochs == 0
    assert compare_curves(fresh.history, first.history) == 0


def test_more_epochs_go_on_from_there(arguments: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    train_digits.main(arguments("--epochs", 2))
    fitted = train_digits.main(arguments("--epochs", 4))
    assert fitted.resumed_epochs == 2
    assert len(fitted.history) == 4
    assert (
        "--epochs was 2, is 4: the learning rate goes on as one of 4 epochs would" in capsys.readouterr().out
    )


def test_fewer_epochs_than_are_done_add_none(arguments: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    first = train_digits.main(arguments("--epochs", 3))
    fitted = train_digits.main(arguments("--epochs", 2))
    assert fitted.history == first.history
    printed = capsys.readouterr().out
    assert "--epochs was 3, is 2: 3 epochs are done already and none is added" in printed
    assert "learning rate goes on" not in printed


def counted(run: Run, scores: list[float], **options: object) -> tuple[Fitted, nn.Linear]:
    """A model whose weight is the number of its epochs, with given scores."""
    model = wrap(nn.Linear(1, 1, bias=False), run)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    epoch = [0]

    def train_one_epoch(number: int) -> dict[str, float]:
        epoch[0] = number
        with torch.no_grad():
            model.weight.fill_(float(number))
        return {"loss": 1.0}

    options = {"epochs": len(scores), "patience": 0, "metric": "score", **options}
    fitted = fit(
        run,
        model,
        optimizer,
        train_one_epoch=train_one_epoch,
        evaluate=lambda: {"score": scores[epoch[0] - 1]},
        **options,
    )
    return fitted, model


def test_it_ends_with_the_best_weights(run: Run) -> None:
    fitted, model = counted(run, [0.1, 0.5, 0.5, 0.3])
    assert (fitted.best_epoch, fitted.best) == (2, {"score": 0.5})
    assert model.weight.item() == 2
    fitted, model = counted(run, [0.1, 0.5, 0.5, 0.3])
    assert fitted.resumed_epochs == 4
    assert model.weight.item() == 2


def test_lower_may_be_better(run: Run) -> None:
    fitted, model = counted(run, [0.4, 0.2, 0.3], better="lower")
    assert fitted.best_epoch == model.weight.item() == 2


def test_it_stops_when_it_gets_no_better(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.arguments.patience = 2
    fitted, model = counted(run, [0.1, 0.4, 0.3, 0.4, 0.9], patience=2)
    assert fitted.stopped_early
    assert len(fitted.history) == 4
    assert model.weight.item() == 2
    assert "no better one in 2 epochs: best score 0.4000 in epoch 2" in capsys.readouterr().out
    # Started again it sees that it has stopped.
    fitted, _ = counted(run, [0.1, 0.4, 0.3, 0.4, 0.9], patience=2)
    assert fitted.stopped_early
    assert fitted.resumed_epochs == 4
    # With more patience it goes on.
    fitted, _ = counted(run, [0.1, 0.4, 0.3, 0.4, 0.9], patience=3)
    assert fitted.best_epoch == 5


def test_a_loss_that_is_no_number_ends_it_and_keeps_the_last_good_checkpoint(
    arguments: Parse, tmp_path: Path
) -> None:
    parsed = arguments("--epochs", 5)
    whole = train_digits.main(arguments("--epochs", 5, "--out", tmp_path / "whole"))
    images = np.load(parsed.data / "digits.npz")
    (tmp_path / "broken").mkdir()
    spoilt = images["images"].copy()
    with pytest.raises(Broken):
        train_digits.main(parsed, break_after(2))
    # The data go bad between two starts: one image of the training part is no number any more.
    spoilt[np.random.default_rng(0).permutation(len(spoilt))[500]] = np.nan
    np.savez(tmp_path / "broken/digits.npz", images=spoilt, labels=images["labels"])
    good_data, parsed.data = parsed.data, tmp_path / "broken"
    with pytest.raises(DivergedError) as failed:
        train_digits.main(parsed)
    text = str(failed.value)
    assert "digits-8x8: the loss became nan in epoch 3, step" in text
    assert f"the checkpoint of epoch 2 is kept in {parsed.out}" in text
    assert "--fresh and a --learning-rate below 0.01" in text
    parsed.data = good_data
    fitted = train_digits.main(parsed)
    assert fitted.resumed_epochs == 2
    assert compare_curves(whole.history, fitted.history) == 0


def test_too_large_a_learning_rate_is_told(arguments: Parse) -> None:
    with pytest.raises(DivergedError, match=r"in epoch \d.*--learning-rate below 1e\+30"):
        train_digits.main(arguments("--learning-rate", "1e30", "--epochs", 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_ends_it(run: Run, value: float) -> None:
    with pytest.raises(
        DivergedError, match=f"valid_score became {value} in epoch 2; the checkpoint of epoch 1"
    ):
        counted(run, [0.1, value])


def test_out_of_disk_in_the_middle_of_a_checkpoint_nothing_is_lost(arguments: Parse, tmp_path: Path) -> None:
    whole = train_digits.main(arguments("--epochs", 5, "--out", tmp_path / "whole"))
    parsed = arguments("--epochs", 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    left = [2]

    def ending() -> None:
        left[0] -= 1
        if left[0] < 0:
            # A third of a checkpoint still goes onto the disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(CheckpointError, match=r"checkpoint of 0\.1 MB: File too large"):
            train_digits.main(parsed, ending)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(read_curves(parsed.out / "curves.csv")) == 2
    fitted = train_digits.main(parsed)
    assert fitted.resumed_epochs == 2
    assert compare_curves(whole.history, fitted.history) == 0


def test_a_damaged_last_checkpoint_costs_the_epochs_since_the_best(
    arguments: Parse, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole = train_digits.main(arguments("--epochs", 6, "--out", tmp_path / "whole"))
    parsed = arguments("--epochs", 6)
    with pytest.raises(Broken):
        train_digits.main(parsed, break_after(4))
    last = parsed.out / "last.pt"
    content = last.read_bytes()
    last.unlink()
    last.write_bytes(content[: len(content) // 2])
    fitted = train_digits.main(parsed)
    assert "last.pt: damaged" in capsys.readouterr().out
    assert 1 <= fitted.resumed_epochs <= 4
    assert compare_curves(whole.history, fitted.history) == 0


def test_another_training_s_checkpoint_is_refused(arguments: Parse) -> None:
    parsed = arguments("--epochs", 1)
    train_digits.main(parsed)
    with pytest.raises(CheckpointError) as failed:
        train_digits.main(arguments("--epochs", 1, "--learning-rate", 0.5, "--seed", 3))
    assert (
        f"{parsed.out} holds the checkpoint of a training with --learning-rate 0.01 (now 0.5), --seed 0 (now 3); "
        "repeat that command, choose another --out, or forget it with --fresh"
    ) in str(failed.value)
    assert train_digits.main(arguments("--epochs", 1, "--learning-rate", 0.5, "--fresh")).resumed_epochs == 0


def test_other_data_and_other_networks_are_refused(run: Run) -> None:
    counted(run, [0.5], data_digest="a")
    with pytest.raises(CheckpointError, match="a training on other data"):
        counted(run, [0.5], data_digest="b")
    with pytest.raises(CheckpointError, match="a training for score higher"):
        counted(run, [0.5], data_digest="a", better="lower")
    model = wrap(nn.Linear(2, 1), run)
    with pytest.raises(CheckpointError, match="a model of other shapes"):
        fit(
            run,
            model,
            torch.optim.SGD(model.parameters(), lr=1),
            train_one_epoch=lambda epoch: {},
            evaluate=lambda: {"score": 0.0},
            epochs=1,
            patience=0,
            metric="score",
            data_digest="a",
        )


def test_frozen_weights_may_stay_out_of_the_checkpoint(run: Run) -> None:
    def train(backbone: float) -> nn.Sequential:
        model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 2))
        nn.init.constant_(model[0].weight, backbone)
        model[0].requires_grad_(False)
        wrap(model, run)
        optimizer = torch.optim.SGD(model[1].parameters(), lr=1)
        fit(
            run,
            model,
            optimizer,
            train_one_epoch=lambda epoch: {},
            evaluate=lambda: {"score": 0.0},
            epochs=1,
            patience=0,
            metric="score",
            save_frozen=False,
        )
        return model

    first = train(0.5)
    assert (run.out / "last.pt").stat().st_size < 20_000
    second = train(0.25)
    assert torch.equal(second[1].weight, first[1].weight)
    assert second[0].weight[0, 0].item() == 0.25


def test_one_folder_is_one_training_s(arguments: Parse) -> None:
    parsed = arguments("--epochs", 1)
    with (
        start(parsed, "digits-8x8"),
        pytest.raises(TrainingError, match="another training is using it"),
    ):
        train_digits.main(parsed)
    train_digits.main(parsed)


def test_a_metric_that_nobody_measures_is_told(run: Run) -> None:
    with pytest.raises(
        ValueError, match="metric: expected one of \\['score'\\], which evaluate returned, got 'f1'"
    ):
        counted(run, [0.5], metric="f1")


def test_the_checkpoint_loads_by_torch_alone(run: Run) -> None:
    counted(run, [0.5, 0.6])
    found = torch.load(run.out / checkpoint.BEST, weights_only=True)
    assert found["model"]["weight"].tolist() == [[2.0]]
