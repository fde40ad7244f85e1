"""Changes to a batch of log-mel energies: warped bands and masks (SpecAugment, Park et al. 2019). Torch, on any device.

The numbers that decide come in as an array, drawn per item by the caller, so that the result does not depend on who
computes which part of a batch.
"""

import torch
from torch import Tensor

# Uniform numbers that `alter` takes per item.
DRAWS = 5


def alter(features: Tensor, draws: Tensor, *, warp: float = 0.12, bands: int = 7, steps: int = 14) -> Tensor:
    """Warp and mask [B, bands, frames] by `draws` [B, 5] from 0 to 1.

    warp: bands are moved up or down by at most this share, a longer or shorter vocal tract; bands, steps: widest masks,
    one over bands and one over time, filled with each clip's mean.
    """
    features = _warp(features, 1 + warp * (2 * draws[:, 0] - 1))
    count, frames = features.shape[1:]
    mean = features.mean(dim=(1, 2), keepdim=True)
    features = torch.where(_mask(draws[:, 1], draws[:, 2], count, bands)[:, :, None], mean, features)
    return torch.where(_mask(draws[:, 3], draws[:, 4], frames, steps)[:, None, :], mean, features)


def _warp(features: Tensor, factor: Tensor) -> Tensor:
    count = features.shape[1]
    position = torch.arange(count, device=features.device)[None, :] * factor[:, None]
    position = position.clamp(0, count - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=count - 1)
    share = (position - below)[:, :, None].to(features.dtype)
    shape = (-1, -1, features.shape[2])
    lower = features.gather(1, below[:, :, None].expand(shape))
    upper = features.gather(1, above[:, :, None].expand(shape))
    return lower + share * (upper - lower)


def _mask(where: Tensor, width: Tensor, count: int, widest: int) -> Tensor:
    wide = width * widest
    start = where * (count - wide)
    at = torch.arange(count, device=where.device)[None, :]
    return (at >= start[:, None]) & (at < (start + wide)[:, None])
