"""Changes to a batch of log-mel energies: warped bands and masks (SpecAugment, Park et al. 2019). Torch, on any device.

The numbers that decide come in as an array, drawn per item by the caller, so that the result does not depend on who
computes which part of a batch.
"""

import torch
from torch import Tensor

# Uniform numbers that `alter` takes per item.
DRAWS = 6


def alter(
    features: Tensor,
    draws: Tensor,
    *,
    warp: float = 0.12,
    tempo: float = 0.4,
    bands: int = 7,
    steps: int = 14,
) -> Tensor:
    """Warp and mask [B, bands, frames] by `draws` [B, 6] from 0 to 1.

    warp: bands are moved up or down by at most this share, a longer or shorter vocal tract; tempo: the middle is played at
    most exp(tempo) times slower or faster at the same pitch, a patient or hasty speaker; bands, steps: widest masks, one
    over bands and one over time, filled with each clip's mean.
    """
    count, frames = features.shape[1:]
    features = _warp(features, 1 + warp * (2 * draws[:, 0] - 1), 0.0)
    pace = torch.exp(tempo * (2 * draws[:, 5] - 1))
    features = _warp(features.transpose(1, 2), pace, (frames - 1) / 2).transpose(1, 2)
    mean = features.mean(dim=(1, 2), keepdim=True)
    features = torch.where(_mask(draws[:, 1], draws[:, 2], count, bands)[:, :, None], mean, features)
    return torch.where(_mask(draws[:, 3], draws[:, 4], frames, steps)[:, None, :], mean, features)


def _warp(features: Tensor, factor: Tensor, around: float) -> Tensor:
    """Read the rows of [B, rows, …] at `factor` [B] times their distance from `around`; beyond the ends the last counts."""
    count = features.shape[1]
    position = around + (torch.arange(count, device=features.device)[None, :] - around) * factor[:, None]
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
