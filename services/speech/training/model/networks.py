"""Three bodies behind the log-mel energies: dense, convolutional, recurrent. Logits [B, labels] come out.

Sizes are set so that each stays below a megabyte as fp32. The recurrent one runs forward only, which exports with any batch.
"""

import torch
from torch import Tensor, nn

from services.speech.training.model.logmel import HOP, WINDOW, LogMel
from shared.training.distributed import GlobalBatchNorm
from shared.training.randomness import GlobalDropout

BODIES = ("cnn", "dnn", "gru")


class SoundClassifier(nn.Module):
    """Samples [B, N] at 8 kHz to logits [B, labels]."""

    def __init__(self, body: str, labels: int, length: int, *, width: int = 16, centre: bool = True) -> None:
        super().__init__()
        self.front = LogMel(centre=centre)
        bands = self.front.mel.shape[0]
        frames = 1 + (length - WINDOW) // HOP
        if body == "cnn":
            self.body: nn.Module = Convolutional(bands, labels, width)
        elif body == "dnn":
            self.body = Dense(bands, frames, labels)
        elif body == "gru":
            self.body = Recurrent(bands, labels, width)
        else:
            raise ValueError(f"body: expected one of {', '.join(BODIES)}, got {body!r}")

    def forward(self, audio: Tensor) -> Tensor:
        """Classify samples."""
        return self.body(self.front(audio))

    def classify_features(self, features: Tensor) -> Tensor:
        """Classify log-mel energies [B, bands, frames], as training does after masking some of them."""
        return self.body(features)


class Convolutional(nn.Module):
    """A residual network over frequency and time, then bands joined, then the mean and the greatest over time."""

    def __init__(self, bands: int, labels: int, width: int) -> None:
        super().__init__()
        self.maps = ResidualMaps(bands, width)
        self.dropout = GlobalDropout(0.3)
        self.head = nn.Linear(2 * self.maps.outputs, labels)

    def forward(self, features: Tensor) -> Tensor:
        """Classify [B, bands, frames]."""
        steps = self.maps(features)
        return self.head(self.dropout(torch.cat([steps.mean(dim=2), steps.amax(dim=2)], dim=1)))


class Recurrent(nn.Module):
    """Local patterns, bands joined, three convolutions over time, and a gated recurrent layer that keeps their order.

    Half the cost of the convolutional network: only the first layer is spread over frequency.
    """

    def __init__(self, bands: int, labels: int, width: int) -> None:
        super().__init__()
        local, narrow, wide = width, 6 * width, 8 * width
        self.stem = _convolution(1, local, 5, 2)
        self.join = _convolution_1d(local * -(-bands // 2), narrow, 1, 1)
        self.first = _convolution_1d(narrow, narrow, 5, 1)
        self.second = _convolution_1d(narrow, wide, 5, 2)
        self.third = _convolution_1d(wide, wide, 5, 1)
        self.fourth = _convolution_1d(wide, wide, 3, 2)
        self.recurrent = nn.GRU(wide, wide, batch_first=True)
        self.dropout = GlobalDropout(0.15)
        self.head = nn.Linear(wide, labels)

    def forward(self, features: Tensor) -> Tensor:
        """Classify [B, bands, frames]."""
        steps = self.join(self.stem(0.3 * features[:, None]).flatten(1, 2))
        steps = steps + self.first(steps)
        steps = self.second(steps)
        steps = self.fourth(steps + self.third(steps))
        steps, _ = self.recurrent(steps.transpose(1, 2))
        return self.head(self.dropout(steps.amax(dim=1)))


class ResidualMaps(nn.Module):
    """Energies [B, bands, frames] to [B, outputs, about frames / 8]: three stages of residual blocks, an eighth as fine.

    Bands are kept apart until the end and then joined by weights of their own: where in the spectrum something is says
    which vowel it was, while a small shift, another speaker's, is what convolutions forgive.
    """

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.outputs = 6 * width
        self.stem = _convolution(1, width, 5, 2)
        self.stages = nn.Sequential(
            _Block(width, width, 1),
            _Block(width, 2 * width, 2),
            _Block(2 * width, 4 * width, 2),
            _Block(4 * width, 4 * width, 1),
        )
        self.join = nn.Sequential(
            nn.Conv1d(4 * width * -(-bands // 8), self.outputs, 1, bias=False),
            GlobalBatchNorm(self.outputs),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, bands, frames]."""
        return self.join(self.stages(self.stem(0.3 * features[:, None])).flatten(1, 2))


class Dense(nn.Module):
    """Two hidden layers over the energies averaged to 20 bands and 24 steps; the simplest thing that can work."""

    def __init__(self, bands: int, frames: int, labels: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d((2, max(1, frames // 24)))
        steps = (frames - self.pool.kernel_size[1]) // self.pool.kernel_size[1] + 1
        self.layers = nn.Sequential(
            nn.Linear(bands // 2 * steps, 256),
            nn.ReLU(),
            GlobalDropout(0.3),
            nn.Linear(256, 128),
            nn.ReLU(),
            GlobalDropout(0.3),
        )
        self.head = nn.Linear(128, labels)

    def forward(self, features: Tensor) -> Tensor:
        """Classify [B, bands, frames]."""
        return self.head(self.layers(self.pool(0.3 * features[:, None]).flatten(1)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = nn.Sequential(
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), GlobalBatchNorm(outputs)
        )
        self.short = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), GlobalBatchNorm(outputs))
        )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(maps)) + self.short(maps))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        GlobalBatchNorm(outputs),
        nn.ReLU(),
    )


def _convolution_1d(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        GlobalBatchNorm(outputs),
        nn.ReLU(),
    )
