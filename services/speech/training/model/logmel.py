"""Log-mel energies inside the graph: framing, window and DFT as one convolution, the mel bands as one product.

Lives here: the fixed matrices and their use, so that what is exported takes samples. They are exact: a frame's power
spectrum equals numpy's `rfft` of the windowed frame to rounding. Mel scale as in HTK: 2595 log10(1 + f / 700).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.speech.pipeline.command import RATE_HZ

WINDOW = 200  # 25 ms
HOP = 120  # 15 ms
FFT = 256
# Energy that is taken for silence; samples come with a root mean square of 0.1, a frame's energy around 1 to 1000.
_FLOOR = 1e-3


class LogMel(nn.Module):
    """Samples [B, N] to log energies [B, bands, frames], frames = 1 + (N - 200) // 120, centred band by band.

    Taking the mean off makes the answer independent of level and of a telephone's or microphone's colour. Nothing here
    learns. `centre` False keeps the mean, for sounds whose colour is what tells them apart.
    """

    def __init__(
        self, bands: int = 40, low_hz: float = 60.0, high_hz: float = 3_600.0, centre: bool = True
    ) -> None:
        super().__init__()
        self.centre = centre
        self.register_buffer("spectrum", torch.from_numpy(fourier_kernel())[:, None, :], persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_matrix(bands, low_hz, high_hz)), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Compute [B, bands, frames] of [B, N]."""
        parts = nn.functional.conv1d(audio[:, None, :], self.spectrum, stride=HOP)
        real, imaginary = parts.split(FFT // 2 + 1, dim=1)
        energy = torch.matmul(self.mel, real.square() + imaginary.square())
        logs = torch.log(energy + _FLOOR)
        return logs - logs.mean(dim=2, keepdim=True) if self.centre else logs


def fourier_kernel() -> NDArray[np.float32]:
    """The window times the DFT's cosines and sines: [2 (256 / 2 + 1), 200]."""
    time = np.arange(WINDOW)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW)
    angle = 2 * np.pi * np.arange(FFT // 2 + 1)[:, None] * time / FFT
    return np.concatenate([np.cos(angle), -np.sin(angle)]).astype(np.float32) * window.astype(np.float32)


def mel_matrix(bands: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Triangles on the mel scale over the bins of the power spectrum: [bands, 129]."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    bins = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
