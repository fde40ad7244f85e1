"""How a convolutional network's numbers lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from shared.training.run import Run

Module = TypeVar("Module", bound=nn.Module)


def channels_last(model: Module, run: Run) -> Module:
    """The model with a pixel's channels beside each other, a fifth to a third faster on processors; the same sums.

    Left as it is where torch 2.13 would write beyond its memory: going back through a 1x1 convolution that skips pixels, by
    several threads of a processor, corrupts the heap and ends in a segmentation fault, sooner or later.
    """
    skips = any(
        isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and max(layer.stride) > 1
        for layer in model.modules()
    )
    if skips and run.device.type == "cpu" and torch.get_num_threads() > 1:
        return model
    return model.to(memory_format=torch.channels_last)
