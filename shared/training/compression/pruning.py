"""Networks with fewer weights: single weights set to zero, or whole channels taken out.

Lives here: which go, and keeping them away while the rest is trained on. Not here: that training, which is the recipe's own
loop for a few epochs more.

Zeros alone make a file smaller only where it is compressed, and a run no faster; channels taken out make both smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.modules.batchnorm._BatchNorm,)  # GlobalBatchNorm is one, too
_PRUNED = (nn.Linear, *_CONVOLUTIONS, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN)


class Masks:
    """Which weights of a module stay; `apply` after every optimizer step sets the others to zero again."""

    def __init__(self, kept: dict[str, Tensor]) -> None:
        self._kept = kept

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        """Set what was pruned to zero."""
        parameters = dict(module.named_parameters())
        for name, mask in self._kept.items():
            parameters[name].mul_(mask)

    @property
    def share(self) -> float:
        """Share of the maskable weights that are gone."""
        total = sum(mask.numel() for mask in self._kept.values())
        return 1.0 - sum(int(mask.sum()) for mask in self._kept.values()) / total


@torch.no_grad()
def prune_magnitude(module: nn.Module, share: float, *, keep: Sequence[str] = ()) -> Masks:
    """Set that share of all weights to zero, the smallest of all layers together, and say which.

    Biases and norms are left alone, and what `keep` names: parameters as `named_parameters` calls them.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: expected 0 <= share < 1, got {share}")
    weights = {
        f"{path}.{name}" if path else name: parameter
        for path, layer in module.named_modules()
        if isinstance(layer, _PRUNED)
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.dim() >= 2
    }
    weights = {name: parameter for name, parameter in weights.items() if name not in keep}
    if not weights:
        raise ValueError("expected a layer with weights that may be pruned, got none")
    sizes = torch.cat([parameter.abs().flatten().float() for parameter in weights.values()])
    # The number of weights that go is exact even where many are equal.
    order = sizes.argsort(stable=True)
    gone = torch.zeros_like(sizes, dtype=torch.bool)
    gone[order[: int(share * len(order))]] = True
    kept, begin = {}, 0
    for name, parameter in weights.items():
        kept[name] = (~gone[begin : begin + parameter.numel()]).view_as(parameter).to(parameter.dtype)
        begin += parameter.numel()
    masks = Masks(kept)
    masks.apply(module)
    return masks


@torch.no_grad()
def rank_channels(layer: nn.Module) -> Tensor:
    """Weight of each output channel, float [channels]: the Euclidean length of what makes it, over the mean of all."""
    weight = layer.weight.flatten(1).norm(dim=1)
    return weight / weight.mean().clamp(min=1e-12)


@torch.no_grad()
def prune_channels(
    producer: nn.Module, share: float, *, norms: Sequence[nn.Module] = (), consumers: Sequence[nn.Module] = ()
) -> Tensor:
    """Take the lightest output channels out of a layer, in place, with all that reads them; gives those that stay, int64.

    producer: a Linear or a convolution of one group. norms: batch norms between. consumers: the layers that read it; a
    Linear behind a flattened picture reads several values of each channel. At least one channel stays.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: expected 0 <= share < 1, got {share}")
    channels = producer.weight.shape[0]
    stay = rank_channels(producer).argsort(descending=True, stable=True)
    kept = stay[: max(channels - int(share * channels), 1)].sort().values
    _cut(producer, "weight", kept, 0)
    if producer.bias is not None:
        _cut(producer, "bias", kept, 0)
    _say(producer, "out", len(kept))
    for norm in norms:
        if not isinstance(norm, _NORMS):
            raise TypeError(f"norms: expected batch norms, got {type(norm).__name__}")
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(norm, name) is not None:
                _cut(norm, name, kept, 0)
        norm.num_features = len(kept)
    for consumer in consumers:
        read = consumer.weight.shape[1]
        if getattr(consumer, "groups", 1) != 1 or read % channels:
            raise ValueError(
                f"consumers: expected a layer of one group that reads {channels} channels, "
                f"got {type(consumer).__name__} reading {read}"
            )
        every = read // channels
        places = (kept[:, None] * every + torch.arange(every, device=kept.device)).flatten()
        _cut(consumer, "weight", places, 1)
        _say(consumer, "in", len(places))
    return kept


def _cut(layer: nn.Module, name: str, kept: Tensor, axis: int) -> None:
    old = getattr(layer, name)
    new = old.index_select(axis, kept).clone()
    setattr(
        layer,
        name,
        nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new,
    )


def _say(layer: nn.Module, side: str, count: int) -> None:
    """A layer's own note of its size, by which it is printed and exported."""
    setattr(layer, f"{side}_features" if isinstance(layer, nn.Linear) else f"{side}_channels", count)
