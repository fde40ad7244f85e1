"""EfficientNet-Lite0, the pretrained backbone that ClassifyImage and EmbedImage serve, as a network that can be trained on.

Source: Tan, Le: EfficientNet (2019), and the Lite variants' description: no squeeze-and-excitation, ReLU6, stem and head of
fixed width. Modules are called as in the published state file, so its tensors load by their names. The weights come from
the package that the catalogue pins; the package's code is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from services.vision.models.efficientnet import CLASSES, EMBEDDING_SIZE, MEAN, STD, WEIGHTS
from shared.inference.weights import read_torch_tensors
from shared.training.distributed import GlobalBatchNorm
from shared.training.errors import DataError
from shared.training.randomness import GlobalDropout

__all__ = ["MEAN", "STD", "EfficientNet", "read_weights"]


class _Stage(NamedTuple):
    """Blocks of one width: the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


STEM = 32
STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# As the weights were trained with (TensorFlow counts momentum the other way: .99).
_EPSILON, _MOMENTUM = 1e-3, 0.01


class _Convolution(nn.Conv2d):
    """TensorFlow's SAME padding: the output has ceil(input / stride) places; an odd pixel is added right and below."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, height, width] to [n, after, ceil(height / stride), ceil(width / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in x.shape[2:])
        if down or across:
            x = functional.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        return super().forward(x)


def _norm(width: int) -> GlobalBatchNorm:
    return GlobalBatchNorm(width, eps=_EPSILON, momentum=_MOMENTUM)


class _Block(nn.Module):
    """Inverted residual: wider by `expansion`, one convolution for each channel alone, narrow again."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = _Convolution(before, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _Convolution(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _Convolution(wide, after, 1)
        self._bn2 = _norm(after)
        self._skips = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, height, width] to [n, after, …]."""
        entry = x
        if self._expands:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + entry if self._skips else x


class EfficientNet(nn.Module):
    """Images [n, 3, side, side], (0..255 - 127) / 128, in; logits [n, classes] out."""

    def __init__(self, classes: int = CLASSES, *, dropout: float = 0.0) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, STEM, 3, 2)
        self._bn0 = _norm(STEM)
        blocks: list[_Block] = []
        before = STEM
        for stage in STAGES:
            for place in range(stage.blocks):
                stride = stage.stride if place == 0 else 1
                blocks.append(_Block(before, stage.width, stage.kernel, stride, stage.expansion))
                before = stage.width
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(before, EMBEDDING_SIZE, 1)
        self._bn1 = _norm(EMBEDDING_SIZE)
        self._dropout = GlobalDropout(dropout)
        self._fc = nn.Linear(EMBEDDING_SIZE, classes)
        self._frozen: list[nn.Module] = []

    @classmethod
    def pretrained(
        cls, tensors: Mapping[str, NDArray[np.generic]], classes: int | None = None, *, dropout: float = 0.0
    ) -> EfficientNet:
        """The published weights; with `classes`, a new last layer that says at first the same to every picture.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        model = cls(dropout=dropout)
        state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit EfficientNet-Lite0: {error}") from error
        if classes is not None:
            model._fc = nn.Linear(EMBEDDING_SIZE, classes)
            nn.init.zeros_(model._fc.weight)
            nn.init.zeros_(model._fc.bias)
        return model

    @property
    def head(self) -> nn.Linear:
        """The last layer, from the embedding to the classes."""
        return self._fc

    def embed(self, image: Tensor) -> Tensor:
        """The pooled features [n, 1280] that EmbedImage gives, before they are scaled."""
        x = functional.relu6(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes]."""
        return self._fc(self._dropout(self.embed(image)))

    def classify_frozen(self, image: Tensor) -> Tensor:
        """As `forward`, with the backbone as in evaluation and without gradients: only the last layer learns."""
        was_training = self.training
        self.eval()
        with torch.no_grad():
            features = self.embed(image)
        self.train(was_training)
        return self._fc(self._dropout(features))

    def unfreeze(self, blocks: int) -> None:
        """Let the last layer, the last `blocks` of 16 and, with any of them, the widest convolution learn; freeze the rest.

        Frozen normalisations keep the statistics of the data that they were trained on.
        """
        if not 0 <= blocks <= len(self._blocks):
            raise ValueError(f"blocks: expected 0 to {len(self._blocks)}, got {blocks}")
        learning: list[nn.Module] = [self._fc]
        if blocks:
            learning += [*self._blocks[len(self._blocks) - blocks :], self._conv_head, self._bn1]
        if blocks == len(self._blocks):
            learning += [self._conv_stem, self._bn0]
        self.requires_grad_(False)
        for module in learning:
            module.requires_grad_(True)
        self._frozen = [
            module
            for module in self.modules()
            if isinstance(module, GlobalBatchNorm) and not module.weight.requires_grad
        ]
        self.train(self.training)

    def train(self, mode: bool = True) -> EfficientNet:
        """As nn.Module's, but frozen normalisations stay as they are in evaluation."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def read_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Tensors of the published state file, by name; nothing but tensors is ever built of it.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return dict(read_torch_tensors(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise DataError(
            path, expected=f"the weights {Path(WEIGHTS).name}", got=f"another content ({error})",
            advice="run `sensorium data pull efficientnet`",
        ) from error  # fmt: skip
