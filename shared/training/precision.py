"""In which numbers a training computes: --precision.

fp32 is the plain thing. bf16 and fp16 are for matrix products alone (`Run.autocast`). fp64 is for everything, and for one
purpose: to tell rounding from a fault. A network with kinks (ReLU) under Adam amplifies a difference in the last bit ten
thousandfold within twelve steps, so that in fp32 two sound trainings part that add up in another order: by one process or
two, by one thread or two. In fp64 they stay together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# By the names of --precision. Weights have half the width in none of them.
AUTOCAST: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *AUTOCAST, "fp64")


@contextlib.contextmanager
def computing_in(precision: str, model: nn.Module) -> Iterator[None]:
    """Inside, with fp64, the model's weights are double, and so are the inputs of each of its layers; fp32 afterwards.

    The parameters stay the same objects, so that an optimizer made before knows them.
    """
    if precision != "fp64":
        yield
        return
    model.double()
    hooks = [
        layer.register_forward_pre_hook(_widen_inputs, with_kwargs=True)
        for layer in model.modules()
        if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.float()


def widen(x: Tensor) -> Tensor:
    """x in which sums may be made: fp32, or fp64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def _widen_inputs(
    layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(map(_double, arguments)), {name: _double(value) for name, value in keywords.items()}


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
