"""A plain convolutional network for small pictures: stages of two 3 x 3 convolutions, halved in size between them.

The widest stage sees the whole of a picture of up to 64 pixels; larger ones want the pretrained backbone
(`efficientnet`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from shared.training.distributed import GlobalBatchNorm
from shared.training.randomness import GlobalDropout


class Cnn(nn.Module):
    """[n, channels, height, width] in, logits [n, classes] out; `width` is the first stage's, each next one's the double."""

    def __init__(
        self, channels: int, classes: int, *, width: int = 16, stages: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for stage in range(stages):
            after = width << stage
            if stage:
                layers.append(nn.MaxPool2d(2))
            for wide in (before, after):
                layers += [
                    # No bias: the normalisation's own follows.
                    nn.Conv2d(wide, after, 3, padding=1, bias=False),
                    GlobalBatchNorm(after),
                    nn.ReLU(),
                ]
            before = after
        self.features = nn.Sequential(*layers)
        self.dropout = GlobalDropout(dropout)
        self.head = nn.Linear(before, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes]."""
        return self.head(self.dropout(self.features(image).mean(dim=(2, 3))))

    def list_convolutions(self) -> Sequence[nn.Conv2d]:
        """The convolutions in their order, for pruning."""
        return [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
