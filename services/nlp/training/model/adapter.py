"""LoRA (Hu et al. 2021): a frozen linear layer learns a change of low rank, which is added to its weights in the end.

Lives here: the layer, putting it into a network, and adding up what it learned. Not here: adding it to the published weights
without torch (`services.nlp.models.sentiment`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """`linear(x) + up · down · x`; the linear layer stays as it is, `up` begins at zero: at first nothing is changed."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """What the linear layer would say if it had learned."""
        return self.linear(x) + (x @ self.down.T) @ self.up.T


def adapt(module: nn.Module, rank: int) -> None:
    """Put a `LowRank` around every linear layer of a network; what was there is frozen."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    # Listed first: the layers put in hold linear layers themselves.
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Linear)
    ]
    for parent, name, child in places:
        setattr(parent, name, LowRank(child, rank))


def merge(module: nn.Module) -> None:
    """Replace every `LowRank` by one linear layer that gives the same answers."""
    places = [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
        if isinstance(child, LowRank)
    ]
    for parent, name, child in places:
        with torch.no_grad():
            child.linear.weight += child.up @ child.down
        setattr(parent, name, child.linear)
