"""A small network learns from a large one: its scores say more than labels do.

Lives here: the loss (Hinton, Vinyals, Dean 2015). Not here: the loops; a teacher's logits are best computed once and kept.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    truth: Tensor | None = None,
    *,
    temperature: float = 2.0,
    weight: float = 0.7,
    reduction: Literal["sum", "mean", "none"] = "sum",
) -> Tensor:
    """Divergence of the student's scores from the teacher's, mixed with the labels' cross entropy.

    student, teacher: logits float [items, labels]; truth: int64 [items], None where items have no labels. temperature
    softens both; the divergence is multiplied by its square, so that its gradients do not shrink with it. weight: the
    teacher's share.
    """
    soft = functional.kl_div(
        functional.log_softmax(student.float() / temperature, 1),
        functional.log_softmax(teacher.detach().float() / temperature, 1),
        log_target=True,
        reduction="none",
    ).sum(1) * (temperature * temperature)
    loss = soft
    if truth is not None:
        loss = weight * soft + (1 - weight) * functional.cross_entropy(
            student.float(), truth, reduction="none"
        )
    return loss if reduction == "none" else getattr(torch, reduction)(loss)
