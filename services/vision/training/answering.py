"""A network's answers to many pictures, and what they are worth.

Not here: what happens to pictures before (`data`, `augmentation`) and statistics for a model card
(`shared.training.evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.training.batches import GlobalBatches
from shared.training.distributed import gather_rows
from shared.training.run import Run

# Bounds the memory of one run: 500 pictures of 28 x 28, 50 of 128 x 128.
_PIXELS = 500 * 28 * 28


def answer(
    run: Run, model: nn.Module, images: Tensor, prepare: Callable[[Tensor], Tensor] = lambda images: images
) -> NDArray[np.float32]:
    """Logits [n, classes] of all images, in their order, shared out over the processes; `prepare` makes the inputs."""
    model.eval()
    indices, rows = [], []
    size = max(_PIXELS // (images.shape[-1] * images.shape[-2]), 2, run.world)
    with torch.no_grad():
        for batch in GlobalBatches(len(images), size, 0, run, shuffle=False).epoch(1):
            indices.append(batch.indices)
            rows.append(model(prepare(images[batch.indices].to(run.device))).float().cpu().numpy())
    return gather_rows(run, indices, rows)


def measure(logits: NDArray[np.float32], labels: Tensor) -> dict[str, float]:
    """Mean loss and accuracy."""
    answers = torch.from_numpy(logits)
    return {
        "loss": float(cross_entropy(answers, labels)),
        "accuracy": float((answers.argmax(dim=1) == labels).float().mean()),
    }
