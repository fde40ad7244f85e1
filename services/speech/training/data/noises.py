"""What is neither speech nor music: coloured noise that is made, the sounds of a desktop, silence.

Lives here: synthesis by a given generator, the reader of the freedesktop theme. Names of the colours say how power falls
per octave: white 0 dB, pink 3, brown 6; blue rises by 3.
"""

from pathlib import Path

import numpy as np

from services.speech.pipeline.command import RATE_HZ, Samples
from services.speech.training.data.clips import Clip, read_clip, require

NOISE = "noise"
COLOURS = {"white": 0.0, "pink": -1.0, "brown": -2.0, "blue": 1.0}


def coloured(length: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Noise [length] of which the power goes with frequency to the `exponent`, root mean square 0.1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    hz[0] = hz[1]
    shaped = np.fft.irfft(spectrum * hz ** (exponent / 2), length)
    return np.asarray(0.1 * shaped / np.sqrt(np.mean(np.square(shaped))), np.float32)


def synthesise(length: int, rng: np.random.Generator) -> Samples:
    """One of many noises [length]: coloured, humming, crackling, coming and going, or next to silence."""
    kind = rng.integers(6)
    noise = coloured(length, rng.uniform(-2.2, 1.0), rng)
    time_s = np.arange(length) / RATE_HZ
    if kind == 1:  # hum of the mains and its harmonics, over some noise
        base = rng.choice([50.0, 60.0]) * rng.uniform(0.99, 1.01)
        hum = sum(
            rng.uniform(0, 1) * np.sin(2 * np.pi * (base * n * time_s + rng.uniform())) for n in range(1, 9)
        )
        noise = 0.1 * hum.astype(np.float32) + noise * np.float32(rng.uniform(0.02, 0.5))
    elif kind == 2:  # crackles
        clicks = (rng.random(length) < rng.uniform(0.0002, 0.004)) * rng.standard_normal(length)
        noise = np.asarray(clicks, np.float32) + noise * np.float32(rng.uniform(0.01, 0.1))
    elif kind == 3:  # wind or passing traffic
        swell = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.1, 3.0) * time_s + rng.uniform()))
        noise = noise * swell.astype(np.float32)
    elif kind == 4:  # one or two bursts: a knock, a door
        burst = np.zeros(length, np.float32)
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(0, length))
            decay = np.exp(-np.arange(length - start) / (rng.uniform(0.01, 0.2) * RATE_HZ))
            burst[start:] += (coloured(length, rng.uniform(-2, 0), rng)[: length - start] * decay).astype(
                np.float32
            )
        noise = burst + noise * np.float32(rng.uniform(0.001, 0.05))
    elif kind == 5:  # a machine's tone
        tone = np.sin(2 * np.pi * (rng.uniform(200, 3000) * time_s + rng.uniform()))
        noise = noise + np.asarray(rng.uniform(0.01, 0.3) * tone, np.float32)
    return np.asarray(noise, np.float32)


def read_desktop(data: Path) -> list[Clip]:
    """Read the sounds of the freedesktop theme, each its own `voice`, left and right averaged.

    Raises:
        DataError: not there, damaged, or nothing found.
    """
    folder = data / "freedesktop-sounds"
    clips = [
        Clip(read_clip(path), NOISE, path.stem, "freedesktop-sounds", path.stem)
        for path in sorted(folder.rglob("*.oga"))
        # A voice says the names of the channels; links are other names of the same sounds.
        if path.is_file() and not path.is_symlink() and not path.name.startswith("audio-channel-")
    ]
    advice = "run `sensorium data pull freedesktop-sounds`"
    require(clips, folder, "the sounds of the freedesktop theme", advice, labels=1)
    return clips
