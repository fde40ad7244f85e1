"""A residual network for small pictures.

Source: He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), section 4.2: three stages of n blocks,
6n + 2 layers in all; n = 3 is ResNet-20.
"""

from __future__ import annotations

from torch import Tensor, nn

from shared.training.distributed import GlobalBatchNorm


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where size or width change."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            GlobalBatchNorm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            GlobalBatchNorm(after),
        )
        # A block begins as its shortcut alone, which lets deep networks start to learn (Goyal et al., 2017).
        nn.init.zeros_(self.main[-1].weight)
        self.shortcut: nn.Module = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False),
                GlobalBatchNorm(after),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, height, width] to [n, after, height / stride, width / stride]."""
        return nn.functional.relu(self.main(x) + self.shortcut(x))


class ResidualCnn(nn.Module):
    """[n, channels, height, width] in, logits [n, classes] out; three stages of `blocks`, twice as wide each time."""

    def __init__(self, channels: int, classes: int, *, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            GlobalBatchNorm(width),
            nn.ReLU(),
        ]
        before = width
        for stage in range(3):
            after = width << stage
            for place in range(blocks):
                layers.append(Block(before, after, 2 if stage and not place else 1))
                before = after
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes]."""
        return self.head(self.features(image).mean(dim=(2, 3)))
