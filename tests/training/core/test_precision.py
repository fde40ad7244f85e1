"""Half the width: autocast in the forward pass, fp32 weights, fp16's gradients scaled. Twice the width: everything, until
the training is over. Everything here runs on the CPU, and on CUDA where there is one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from shared.training.arguments import make_parser
from shared.training.curves import compare_curves
from shared.training.distributed import GlobalBatchNorm, step, wrap
from shared.training.errors import TrainingError
from shared.training.precision import computing_in
from shared.training.run import start
from tests.training.core import train_digits

Parse = Callable[..., argparse.Namespace]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_the_width_learns_as_well(arguments: Parse, tmp_path: Path, device: str, precision: str) -> None:
    common = ("--limit", 1000, "--epochs", 4, "--device", device)
    full = train_digits.main(arguments(*common, "--out", tmp_path / "fp32"))
    half = train_digits.main(arguments(*common, "--precision", precision))
    assert half.best["accuracy"] > full.best["accuracy"] - 0.05
    # It really was another arithmetic, and not a much worse one.
    assert 0 < compare_curves(full.history[:1], half.history[:1]) < 0.1


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp64"])
def test_another_width_goes_on_with_the_same_curve(arguments: Parse, tmp_path: Path, precision: str) -> None:
    common = ("--epochs", 3, "--precision", precision)
    whole = train_digits.main(arguments(*common, "--out", tmp_path / "whole"))

    def ending() -> None:
        if (tmp_path / "out/last.pt").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_digits.main(arguments(*common), ending)
    fitted = train_digits.main(arguments(*common))
    assert fitted.resumed_epochs == 1
    assert compare_curves(whole.history, fitted.history) == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_products_are_cast_and_weights_are_not(
    tmp_path: Path, device: str, precision: str, dtype: torch.dtype
) -> None:
    parser = make_parser(None, epochs=1, batch_size=1, learning_rate=1)
    parsed = parser.parse_args(
        ["--out", str(tmp_path), "--precision", precision, "--device", device, "--threads", "1"]
    )
    with start(parsed, "test") as run:
        model = wrap(nn.Linear(4, 2), run)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = model.weight.detach().clone()
        with run.autocast():
            answer = model(torch.ones(3, 4, device=run.device))
            assert answer.dtype == dtype
            # Small enough for fp16 even when it is scaled up.
            loss = answer.float().square().mean() / 1000
        step(run, model, optimizer, loss, clip_norm=1e-5)
        assert model.weight.dtype == torch.float32
        # The clipped gradient, not one that is still scaled up by fp16's 65,536.
        moved = torch.cat([(model.weight - before).flatten(), torch.zeros(1, device=run.device)])
        assert 0 < moved.norm().item() <= 0.1 * 1e-5 * 1.01


@pytest.mark.parametrize("device", DEVICES)
def test_twice_the_width_is_everything_until_the_training_is_over(
    arguments: Parse, tmp_path: Path, device: str
) -> None:
    model = nn.Sequential(nn.Conv1d(1, 2, 3), GlobalBatchNorm(2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1))
    parameters = list(model.parameters())
    with computing_in("fp64", model.to(device)):
        answer = model(torch.ones(3, 1, 4, device=device))
        answer.sum().backward()
        assert answer.dtype == torch.float64
        assert {tensor.dtype for tensor in parameters} == {torch.float64}
        assert {tensor.grad.dtype for tensor in parameters} == {torch.float64}
        # More than fp32 can hold is kept, and rounded at the end.
        with torch.no_grad():
            parameters[0].fill_(1 + 2.0**-40)
        assert model[0].weight[0, 0, 0].item() > 1
    assert all(one is other for one, other in zip(parameters, model.parameters(), strict=True))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32, torch.int64}
    assert model(torch.ones(3, 1, 4, device=device)).dtype == torch.float32
    common = ("--limit", 1000, "--epochs", 4, "--device", device)
    single = train_digits.main(arguments(*common, "--out", tmp_path / "fp32"))
    double = train_digits.main(arguments(*common, "--precision", "fp64"))
    # Another arithmetic, and no other training.
    assert 0 < compare_curves(single.history, double.history) < 0.02


def test_fp16_passes_over_a_step_whose_gradients_overflow(tmp_path: Path) -> None:
    parser = make_parser(None, epochs=1, batch_size=1, learning_rate=1)
    parsed = parser.parse_args(
        ["--out", str(tmp_path), "--precision", "fp16", "--device", "cpu", "--threads", "1"]
    )
    with start(parsed, "test") as run:
        model = wrap(nn.Linear(1, 1, bias=False), run)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = model.weight.item()
        scale = run.scaler.get_scale()
        with run.autocast():
            loss = model(torch.full((1, 1), 60_000.0)).float().sum()
        step(run, model, optimizer, loss)
        assert model.weight.item() == before
        assert run.scaler.get_scale() == scale / 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_that_is_not_there_is_told(arguments: Parse) -> None:
    with pytest.raises(
        TrainingError, match=r"--device cuda: expected a CUDA device .* got 0 .* use --device cpu"
    ):
        train_digits.main(arguments("--device", "cuda"))
