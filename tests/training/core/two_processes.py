"""What two processes must do as one would, checked inside both: started by torchrun from test_distributed.

torchrun --standalone --nproc-per-node 2 -m tests.training.core.two_processes --out DIR
"""

from __future__ import annotations

import copy
import resource

import numpy as np
import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from shared.training import position
from shared.training.arguments import make_parser
from shared.training.batches import GlobalBatches
from shared.training.distributed import (
    Average,
    GlobalBatchNorm,
    broadcast_object,
    check_agreement,
    gather_rows,
    step,
    sum_over_processes,
    wrap,
)
from shared.training.errors import CheckpointError, DivergedError, TrainingError
from shared.training.fit import Fitted, fit
from shared.training.position import Position
from shared.training.randomness import GlobalDropout
from shared.training.run import Run, start
from tests.training.core.file_limit import files_up_to

# Seven items on two processes: three and four of them.
ITEMS, PARTS = 7, [(0, 3), (3, 7)]


def check_sums(run: Run) -> None:
    begin, end = PARTS[run.rank]
    values = np.arange(10.0, 10 + ITEMS)
    mean = Average()
    mean.add(torch.tensor(values[begin:end].sum()), end - begin)
    assert mean.value(run) == values.mean()
    assert sum_over_processes(run, {"a": run.rank + 1, "b": 0.5}) == {"a": 3, "b": 1}
    assert broadcast_object(run, [run.rank, b"x"]) == [0, b"x"]
    batches = GlobalBatches(ITEMS, 3, 0, run)
    indices = [batch.indices for batch in batches.epoch(1)]
    gathered = gather_rows(run, indices, [np.stack([items, items**2], 1) for items in indices])
    assert gathered.tolist() == [[n, n * n] for n in range(ITEMS)]


def check_same_start(run: Run) -> None:
    torch.manual_seed(run.rank)
    model = wrap(nn.Sequential(nn.Linear(3, 3), GlobalBatchNorm(3)), run)
    weights = [torch.zeros_like(model[0].weight) for _ in range(2)]
    torch.distributed.all_gather(weights, model[0].weight.detach())
    assert torch.equal(*weights)
    check_agreement(run, model)
    with torch.no_grad():
        model[0].weight[0, 0] += run.rank
    with pytest.raises(TrainingError, match="the processes' weights have come apart"):
        check_agreement(run, model)


def check_batch_norm(run: Run, shape: tuple[int, ...], plain: nn.Module) -> None:
    """Outputs, gradients and running statistics are those of the whole batch."""
    torch.manual_seed(1)
    nn.init.uniform_(plain.weight)
    nn.init.uniform_(plain.bias)
    whole = (torch.randn(ITEMS, *shape) * 3 + 100).requires_grad_()
    weight = torch.randn(ITEMS, *shape)
    shared = GlobalBatchNorm.convert(nn.Sequential(copy.deepcopy(plain)))[0]
    assert type(shared) is GlobalBatchNorm
    begin, end = PARTS[run.rank]
    for _ in range(3):
        expected = plain(whole)
        part = whole.detach()[begin:end].requires_grad_()
        got = shared(part)
        torch.testing.assert_close(got, expected[begin:end], rtol=1e-4, atol=1e-4)
    (expected * weight).sum().backward()
    (got * weight[begin:end]).sum().backward()
    torch.testing.assert_close(part.grad, whole.grad[begin:end], rtol=1e-3, atol=1e-4)
    for name, parameter in shared.named_parameters():
        torch.distributed.all_reduce(parameter.grad)
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=1e-3, atol=1e-3)
    for name, buffer in shared.named_buffers():
        torch.testing.assert_close(buffer, plain.get_buffer(name), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared.eval()(part), plain.eval()(whole)[begin:end])


class Network(nn.Module):
    """One layer that is used, one that nobody uses, one that only the first process uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.sometimes = nn.Linear(3, 1), nn.Linear(2, 2), nn.Linear(3, 1)

    def forward(self, x: Tensor, begin: int) -> Tensor:
        # Item 0 is the first process's.
        return self.used(x).sum() + (self.sometimes(x[:1]).sum() if begin == 0 else 0)


def check_step(run: Run) -> None:
    """A step of both is the step of one with all items, weight decay of unused weights included."""
    torch.manual_seed(2)
    x = torch.randn(ITEMS, 3)
    model = wrap(Network(), run)
    alone = copy.deepcopy(model)
    options = {"lr": 0.1, "weight_decay": 0.5}
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    reference = torch.optim.AdamW(alone.parameters(), **options)
    begin, end = PARTS[run.rank]
    for _ in range(3):
        expected = alone(x, 0) / ITEMS
        reference.zero_grad()
        expected.backward()
        nn.utils.clip_grad_norm_(alone.parameters(), 0.5)
        reference.step()
        loss = step(run, model, optimizer, model(x[begin:end], begin) / ITEMS, clip_norm=0.5)
        assert loss == pytest.approx(float(expected), abs=1e-5)
    assert model.unused.weight.grad is None
    assert alone.unused.weight.grad is None
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, alone.get_parameter(name), rtol=1e-4, atol=1e-5)
    check_agreement(run, model)
    # One process's loss is no number: both hear of it, and nothing has moved.
    before = model.used.weight.detach().clone()
    spoilt = x[begin:end] * (float("nan") if run.rank == 1 else 1)
    with pytest.raises(DivergedError, match="the loss became nan"):
        step(run, model, optimizer, model(spoilt, begin) / ITEMS)
    assert torch.equal(model.used.weight, before)


def check_dropout(run: Run) -> None:
    model = wrap(nn.Sequential(GlobalDropout(0.4)), run)
    begin, end = PARTS[run.rank]
    x = torch.ones(ITEMS, 50)
    position.move(Position(1, 0, 1, begin, end, ITEMS))
    mine = model(x[begin:end])
    parts: list[Tensor] = [None] * 2
    torch.distributed.all_gather_object(parts, mine)
    position.move(Position(1, 0, 1, 0, ITEMS, ITEMS))
    assert torch.equal(torch.cat(parts), model(x))
    position.move(None)


def check_refusals(run: Run) -> None:
    refused = {
        "Dropout": nn.Dropout(0.1),
        "LSTM": nn.LSTM(3, 3, num_layers=2, dropout=0.1),
        "MultiheadAttention": nn.MultiheadAttention(4, 2, dropout=0.1),
        "BatchNorm1d": nn.BatchNorm1d(3),
    }
    for name, layer in refused.items():
        with pytest.raises(
            TrainingError, match=rf"layer 1\.0 \({name}\) would give several processes another result"
        ):
            wrap(nn.Sequential(nn.Identity(), nn.Sequential(layer)), run)
    wrap(nn.Sequential(nn.Dropout(0), nn.LSTM(3, 3), nn.BatchNorm1d(3).requires_grad_(False)), run)


def check_checkpoints(run: Run) -> None:
    """What fails in the first process, which writes, fails in both; then both go on."""

    def train(score: float) -> Fitted:
        model = wrap(nn.Linear(100, 10), run)
        return fit(
            run,
            model,
            torch.optim.SGD(model.parameters(), lr=1),
            train_one_epoch=lambda epoch: {"loss": 1.0},
            # Each process measures something else: the first one's counts.
            evaluate=lambda: {"score": score + run.rank},
            epochs=2,
            patience=0,
            metric="score",
        )

    with (
        files_up_to(2000 if run.is_main else resource.RLIM_INFINITY),
        pytest.raises(CheckpointError, match="File too large"),
    ):
        train(0.5)
    fitted = train(0.5)
    assert fitted.resumed_epochs == 0
    assert [row["valid_score"] for row in fitted.history] == [0.5, 0.5]
    assert train(0.7).history == fitted.history
    run.arguments.seed = 1
    with pytest.raises(CheckpointError, match="a training with --seed 0"):
        train(0.5)
    run.arguments.seed = 0


if __name__ == "__main__":
    parser = make_parser(__doc__, epochs=1, batch_size=1, learning_rate=1)
    with start(parser.parse_args(), "two-processes") as started:
        assert started.world == 2
        check_sums(started)
        check_same_start(started)
        check_batch_norm(started, (5,), nn.BatchNorm1d(5))
        check_batch_norm(started, (5, 4), nn.BatchNorm1d(5))
        check_batch_norm(started, (3, 4, 2), nn.BatchNorm2d(3, momentum=None))
        check_step(started)
        check_dropout(started)
        check_refusals(started)
        check_checkpoints(started)
        started.say("all hold")
