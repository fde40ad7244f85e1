"""What a network has learned, apart from what it began with, as numpy arrays.

Lives here: taking weights out and putting them back. Not here: checkpoints (`shared.training.checkpoint`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shared.training.errors import TrainingError


def read_learned(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The weights that learned, by their names in the network."""
    return {
        name: weights.detach().cpu().numpy()
        for name, weights in model.named_parameters()
        if weights.requires_grad
    }


def load_learned(model: nn.Module, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put what `read_learned` returned into a network made with the same arguments.

    Raises:
        TrainingError: weights are missing, unknown or of other shapes.
    """
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if weights.keys() != learning.keys():
        odd = sorted(weights.keys() ^ learning.keys())[0]
        raise TrainingError(f"weights of another model: {odd!r}; give the arguments that it was trained with")
    with torch.no_grad():
        for name, parameter in learning.items():
            if parameter.shape != weights[name].shape:
                raise TrainingError(
                    f"{name}: expected {tuple(parameter.shape)}, got {weights[name].shape}; "
                    "give the arguments that it was trained with"
                )
            parameter.copy_(torch.from_numpy(weights[name]))
