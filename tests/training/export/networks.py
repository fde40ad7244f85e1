"""Small networks of every kind that is trained here, their inputs, and those that cannot be served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shared.training.recurrent import Kind, Recurrent

WORDS, LABELS = 200, 5
TEXT = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}
GRAMS = {"ids": {0: "batch", 1: "length"}, "counts": {0: "batch", 1: "length"}}
Inputs = dict[str, Tensor]


def mean(states: Tensor, mask: Tensor) -> Tensor:
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)


class Grams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 16, padding_idx=0)
        self.last = nn.Linear(16, LABELS)

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        total = (self.table(ids) * counts.unsqueeze(-1)).sum(1)
        return self.last(total / counts.sum(1, keepdim=True).clamp(min=1))


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(WORDS, LABELS, mode="sum")

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        return self.table(ids, per_sample_weights=counts)


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.last = nn.Linear(16, LABELS)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.layers(image))


class Words(nn.Module):
    def __init__(self, kind: Kind, layers: int = 1, bidirectional: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 16)
        self.states = Recurrent(
            kind, 16, 12, layers=layers, bidirectional=bidirectional, between=nn.Dropout(0.5)
        )
        self.last = nn.Linear(self.states.output_size, LABELS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.states(self.table(input_ids), attention_mask.sum(1))
        return self.last(mean(states, attention_mask))


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 16)
        self.states = nn.LSTM(16, 12, batch_first=True, bidirectional=True)
        self.last = nn.Linear(24, LABELS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.last(mean(self.states(self.table(input_ids))[0], attention_mask))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(WORDS, 32), nn.Embedding(512, 32)
        self.into, self.out_of = nn.Linear(32, 96), nn.Linear(32, 32)
        self.norm, self.last = nn.LayerNorm(32), nn.Linear(32, LABELS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        rows, length = input_ids.shape
        states = self.table(input_ids) + self.places(torch.arange(length, device=input_ids.device))
        query, key, value = self.into(states).view(rows, length, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) * 8**-0.5
        hidden = (attention_mask == 0)[:, None, None, :]
        weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(rows, length, 32)
        return self.last(mean(self.norm(states + self.out_of(mixed)), attention_mask))


class Sound(nn.Module):
    """Log-mel inside, then a recurrent layer over its frames."""

    def __init__(self) -> None:
        super().__init__()
        window = 256
        phase = torch.arange(window // 2 + 1)[:, None] * torch.arange(window)[None] * (2 * torch.pi / window)
        waves = torch.cat([phase.cos(), phase.sin()]) * torch.hann_window(window)
        self.register_buffer("waves", waves[:, None].float())
        self.register_buffer("bands", torch.rand(20, window // 2 + 1))
        self.states = Recurrent("gru", 20, 8)
        self.last = nn.Linear(8, LABELS)

    def forward(self, audio: Tensor) -> Tensor:
        real, imaginary = nn.functional.conv1d(audio[:, None], self.waves, stride=128).chunk(2, 1)
        frames = (self.bands @ (real.square() + imaginary.square()) + 1e-6).log().transpose(1, 2)
        lengths = torch.full_like(frames[:, 0, 0], frames.shape[1], dtype=torch.int64)
        return self.last(self.states(frames, lengths).mean(1))


def draw_text(rows: int, length: int, generator: torch.Generator) -> Inputs:
    ends = torch.randint(1, length + 1, (rows, 1), generator=generator)
    ends[0] = length
    mask = (torch.arange(length)[None] < ends).long()
    return {
        "input_ids": torch.randint(1, WORDS, (rows, length), generator=generator) * mask,
        "attention_mask": mask,
    }


def draw_grams(rows: int, length: int, generator: torch.Generator) -> Inputs:
    text = draw_text(rows, length, generator)
    counts = text["attention_mask"] * torch.rand(rows, length, generator=generator)
    return {"ids": text["input_ids"], "counts": counts}


def draw_picture(rows: int, length: int, generator: torch.Generator) -> Inputs:
    return {"image": torch.rand(rows, 1, 28, 28, generator=generator)}


def draw_sound(rows: int, length: int, generator: torch.Generator) -> Inputs:
    return {"audio": torch.randn(rows, 2000, generator=generator)}


@dataclass(frozen=True)
class Case:
    """A kind of network, how its inputs are drawn, and its axes of any length."""

    make: Callable[[], nn.Module]
    draw: Callable[[int, int, torch.Generator], Inputs]
    dynamic: dict[str, dict[int, str]] | None


CASES = {
    "grams": Case(Grams, draw_grams, GRAMS),
    "pictures": Case(Pictures, draw_picture, None),
    "rnn": Case(lambda: Words("rnn"), draw_text, TEXT),
    "lstm": Case(lambda: Words("lstm", layers=2), draw_text, TEXT),
    "gru": Case(lambda: Words("gru", bidirectional=False), draw_text, TEXT),
    "attention": Case(Attention, draw_text, TEXT),
    "sound": Case(Sound, draw_sound, None),
}


def make(case: Case, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return case.make().eval()
