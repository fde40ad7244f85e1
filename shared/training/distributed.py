"""Several processes, one result: what they add up, and the step that does.

The loss of a step is the sum over a process's items divided by the items of ALL processes, and gradients are summed: so N
processes take the step that one would have taken with the same global batch. (DistributedDataParallel takes the mean over
processes, which is right only when all have equally many items.) With one process everything here is the plain thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.training import position
from shared.training.errors import DivergedError, TrainingError
from shared.training.precision import widen
from shared.training.randomness import GlobalDropout
from shared.training.run import Run

Module = TypeVar("Module", bound=nn.Module)
Value = TypeVar("Value")
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def wrap(model: Module, run: Run) -> Module:
    """Readies a model for training: onto the device, every process with the first one's weights, dropouts numbered.

    Call it before the optimizer is made; it returns the same model, no other class around it.

    Raises:
        TrainingError: with several processes, a layer whose result depends on how the batch is shared out.
    """
    model.to(run.device)
    for number, layer in enumerate(layer for layer in model.modules() if isinstance(layer, GlobalDropout)):
        layer.prepare(run.seed, number)
    if run.world > 1:
        _refuse_local_layers(model)
        for tensor in (*model.parameters(), *model.buffers()):
            _together(torch.distributed.broadcast, tensor.data, src=0)
    return model


def step(
    run: Run,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    *,
    clip_norm: float | None = None,
) -> float:
    """Goes back through `loss`, sums the gradients over all processes and takes one step of the optimizer.

    loss: sum over this process's items / `batch.global_size`. clip_norm: longest gradient, longer ones are scaled down.
    Gradients are cleared before. Returns the global batch's loss.

    Raises:
        DivergedError: the loss is infinite or not a number, in whichever process; nothing was changed.
    """
    optimizer.zero_grad(set_to_none=True)
    run.scaler.scale(loss).backward()
    total = _sum_gradients(model, loss.detach()) if run.world > 1 else loss.detach()
    value = float(total)
    if not np.isfinite(value):
        here = position.current()
        where = f" in epoch {here.epoch}, step {here.step + 1} of {here.steps}" if here else ""
        raise DivergedError(f"the loss became {value}{where}")
    if clip_norm is not None:
        run.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    run.scaler.step(optimizer)
    run.scaler.update()
    return value


class Average:
    """The mean of something over the items of all processes."""

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._count = 0

    def add(self, total: Tensor | float, count: int) -> None:
        """Adds the sum over `count` of this process's items."""
        # float64: thousands of batches are added.
        self._sum = self._sum + (total.detach().double() if isinstance(total, Tensor) else total)
        self._count += count

    def value(self, run: Run) -> float:
        """The mean over what all processes have added; all must ask. NaN without any item."""
        sums = sum_over_processes(run, {"sum": float(self._sum), "count": float(self._count)})
        return sums["sum"] / sums["count"] if sums["count"] else float("nan")


def sum_over_processes(run: Run, values: Mapping[str, float]) -> dict[str, float]:
    """Adds up each value over all processes; all must call it with the same names in the same order."""
    if run.world == 1:
        return dict(values)
    summed = torch.tensor(list(values.values()), dtype=torch.float64, device=run.device)
    _together(torch.distributed.all_reduce, summed)
    return dict(zip(values, summed.tolist(), strict=True))


def gather_rows(run: Run, indices: Sequence[NDArray[np.int64]], rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Brings the rows that processes have computed for their items together, in the order of the items' numbers.

    indices: `batch.indices` of each of this process's batches; rows: beside each, [items, …] on equal shapes but the
    first. Returns [all items, …] in every process.
    """
    numbers, values = np.concatenate(indices), np.concatenate(rows)
    if run.world > 1:
        parts: list[Any] = [None] * run.world
        _together(torch.distributed.all_gather_object, parts, (numbers, values))
        numbers, values = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
    return values[np.argsort(numbers, kind="stable")]


def broadcast_object(run: Run, value: Value) -> Value:
    """What the first process has as `value`, in all of them; plain Python values and bytes."""
    if run.world == 1:
        return value
    holder: list[Any] = [value]
    _together(torch.distributed.broadcast_object_list, holder, src=0)
    return cast(Value, holder[0])


def check_agreement(run: Run, model: nn.Module) -> None:
    """Makes sure that all processes still have the same weights.

    Raises:
        TrainingError: they differ; somebody took a step without `step`.
    """
    if run.world == 1:
        return
    weights = [parameter.detach().double() for parameter in model.parameters()]
    sums = torch.stack([weight.sum() for weight in weights])
    sizes = torch.stack([weight.abs().sum() for weight in weights])
    least, most = sums.clone(), sums
    _together(torch.distributed.all_reduce, least, torch.distributed.ReduceOp.MIN)
    _together(torch.distributed.all_reduce, most, torch.distributed.ReduceOp.MAX)
    # Accelerators of several kinds round differently; weights that go their own ways differ by far more.
    if not bool((most - least <= 1e-4 * sizes + 1e-6).all()):
        raise TrainingError(
            "the processes' weights have come apart: every step must be taken with shared.training.distributed.step"
        )


class GlobalBatchNorm(_BatchNorm):
    """Batch normalisation with the mean and variance of the global batch; [items, features, …] of any number of axes.

    With one process, in evaluation and when exported it is what nn.BatchNorm1d/2d/3d are, and its weights have their
    names, so that theirs load. A layer before it had better have no bias: the mean takes it away again, Adam then follows
    the rounding of a gradient that is zero, and running means drift apart between one process and several.
    """

    @classmethod
    def convert(cls, module: nn.Module) -> nn.Module:
        """Replaces every batch normalisation inside `module` by a global one with the same weights; returns it."""
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, cls):
                made = cls(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                )
                made.load_state_dict(child.state_dict())
                made.train(child.training)
                for parameter, before in zip(made.parameters(), child.parameters(), strict=True):
                    parameter.requires_grad_(before.requires_grad)
                setattr(module, name, made)
            else:
                cls.convert(child)
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Normalises [items, features, …]."""
        if (
            not self.training
            or not torch.distributed.is_initialized()
            or torch.distributed.get_world_size() == 1
        ):
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        # Sums in fp32 at least, even where activations are of half the width.
        wide = widen(x)
        count = _SumOverProcesses.apply(
            torch.tensor([x.numel() / x.shape[1]], dtype=wide.dtype, device=x.device)
        )
        mean = _SumOverProcesses.apply(wide.sum(axes)) / count
        # Around the mean, in a second round: the difference of two large sums would cancel.
        centred = wide - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(axes)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normed = (centred * torch.rsqrt(variance + self.eps).view(shape)).to(x.dtype)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected [items, features, …], got {x.dim()} axes")


def _together(collective: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Calls one of torch.distributed's; when a process has ended, the others say so in one line."""
    try:
        collective(*arguments, **options)
    except RuntimeError as error:
        raise TrainingError(
            f"the processes no longer reach each other ({str(error).split('. ')[0]}): one has ended, and says why if it "
            "could; the same command goes on from the last checkpoint"
        ) from error


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce whose gradient is all_reduce: every process's loss depends on every process's share."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        x = x.clone()
        _together(torch.distributed.all_reduce, x)
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        _together(torch.distributed.all_reduce, gradient)
        return gradient


def _sum_gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Sums all gradients over the processes, in one message that the loss and each gradient's presence ride along with."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    present = loss.new_tensor(
        [float(parameter.grad is not None) for parameter in learning], dtype=torch.float32
    )
    parts = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in learning
    ]
    flat = torch.cat([widen(loss).reshape(1), present, *(widen(part).reshape(-1) for part in parts)])
    _together(torch.distributed.all_reduce, flat)
    total, present, rest = flat[0], flat[1 : 1 + len(learning)], flat[1 + len(learning) :]
    sizes = [parameter.numel() for parameter in learning]
    for parameter, seen, part in zip(learning, present.tolist(), rest.split(sizes), strict=True):
        # One that no process has used stays without, as it would with one process: weight decay then leaves it alone.
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if seen else None
    return total


def _refuse_local_layers(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, _DROPOUTS) and layer.p > 0:
            instead = "use randomness.GlobalDropout"
        elif isinstance(layer, nn.RNNBase) and layer.dropout > 0:
            instead = "put randomness.GlobalDropout between one-layer networks"
        elif isinstance(layer, nn.MultiheadAttention) and layer.dropout > 0:
            instead = "put randomness.GlobalDropout behind it"
        elif (
            isinstance(layer, _BatchNorm)
            and not isinstance(layer, GlobalBatchNorm)
            and any(parameter.requires_grad for parameter in layer.parameters())
        ):
            instead = "use distributed.GlobalBatchNorm or freeze it"
        else:
            continue
        raise TrainingError(
            f"layer {name} ({type(layer).__name__}) would give several processes another result than one; {instead}"
        )
