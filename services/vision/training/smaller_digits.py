"""Smaller forms of a trained digits network: channels pruned and the rest fine-tuned, half the width taught by the whole.

Not here: int8 and fp16, which need no training (`shared.training.compression`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from services.vision.training.augmentation import DigitAugmentation
from services.vision.training.data.digits import Digits
from services.vision.training.model.cnn import Cnn
from shared.training.batches import GlobalBatches
from shared.training.compression.distillation import distillation_loss
from shared.training.compression.pruning import prune_channels
from shared.training.distributed import GlobalBatchNorm, step, wrap
from shared.training.layout import channels_last
from shared.training.run import Run
from shared.training.schedule import cosine

# Passes over the data: a pruned network knows the digits already, a new one does not.
PRUNED_EPOCHS, DISTILLED_EPOCHS = 4, 10
_BATCH = 64
_PRUNED_RATE, _DISTILLED_RATE = 1e-3, 4e-3


def prune(run: Run, network: Cnn, train: Digits, share: float) -> Cnn:
    """A copy without that share of the channels between the two convolutions of each stage, fine-tuned."""
    pruned = copy.deepcopy(network)
    layers = list(pruned.features)
    inner = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)][::2]
    for place in inner:
        convolution, norm, _activation, consumer = layers[place : place + 4]
        assert isinstance(norm, GlobalBatchNorm)
        prune_channels(convolution, share, norms=[norm], consumers=[consumer])
    _teach(
        run, pruned, train, PRUNED_EPOCHS, _PRUNED_RATE, lambda images, labels, logits: _judge(logits, labels)
    )
    return pruned


def distill(run: Run, teacher: nn.Module, train: Digits, width: int) -> Cnn:
    """A new network of that width that learns the scores of `teacher` beside the labels."""
    teacher.eval()
    student = channels_last(wrap(Cnn(1, 10, width=width, dropout=0.0), run), run)

    def judge(images: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(images)
        return distillation_loss(logits, taught, labels)

    _teach(run, student, train, DISTILLED_EPOCHS, _DISTILLED_RATE, judge)
    return student


def _judge(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="sum", label_smoothing=0.05)


def _teach(
    run: Run,
    model: nn.Module,
    train: Digits,
    epochs: int,
    rate: float,
    judge: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    """A short training without checkpoints; `judge` gives the summed loss of images, labels and logits."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02)
    schedule, augment = cosine(warmup=0.15), DigitAugmentation()
    batches = GlobalBatches(len(train), _BATCH, run.seed, run)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in run.track(batches.epoch(epoch), f"epoch {epoch}", total=len(batches)):
            done = (epoch - 1 + batch.step / len(batches)) / epochs
            optimizer.param_groups[0]["lr"] = rate * schedule(done)
            images = augment(train.images[batch.indices].to(run.device), run.seed, epoch, batch.indices)
            labels = train.labels[batch.indices].to(run.device)
            step(run, model, optimizer, judge(images, labels, model(images)) / batch.global_size)
    model.eval()
