"""How a clip is changed before it is trained on: which changes, how often, how much; decided by one generator per item.

Lives here: the odds, and the noises that stand ready. Not here: the changes (`waveform`, `spectrum`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.speech.pipeline.command import RATE_HZ, Samples, place, trim
from services.speech.training.augmentation import waveform
from services.speech.training.data.noises import synthesise


@dataclass(frozen=True)
class CommandAugmentation:
    """A clip [T] of one command to a window [length] as a microphone somewhere might have heard it."""

    length: int
    level: float
    music: Sequence[Samples] = ()
    others: Sequence[Samples] = field(default=())  # people talking in the background
    speed: float = 0.18
    reverberation: float = 0.3
    noise: float = 0.5
    telephone: float = 0.2
    mobile: float = 0.35
    colour: float = 0.4

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Change a clip; the same generator gives the same change."""
        samples = waveform.change_speed(samples, float(np.exp(rng.uniform(-self.speed, self.speed))))
        loudness = waveform.rms(samples)
        # Room for the reverberation's tail and for a place that is not exactly the middle.
        around = np.zeros(max(self.length, len(samples)), np.float32)
        start = int(rng.integers(0, len(around) - len(samples) + 1))
        around[start : start + len(samples)] = samples
        if rng.random() < self.reverberation:
            decay_s, direct_db = float(rng.uniform(0.08, 0.7)), float(rng.uniform(-2, 15))
            around = waveform.reverberate(around, rng, decay_s=decay_s, direct_db=direct_db)
        if rng.random() < self.colour:
            around = waveform.tilt(around, rng)
        if rng.random() < self.noise:
            around = waveform.add_noise(
                around, self._noise(len(around), rng), float(rng.uniform(3, 35)), loudness
            )
        if rng.random() < self.telephone:
            around = waveform.telephone(around, rng)
        if rng.random() < self.mobile:
            around = waveform.mobile(around)
        # As a served clip is: the silence around it cut off, wherever noise allows that, and put in the middle.
        around = trim(around)
        slack = int(rng.integers(-800, 801))
        if slack > 0:
            around = np.concatenate([np.zeros(slack, np.float32), around])
        elif slack < 0:
            around = np.concatenate([around, np.zeros(-slack, np.float32)])
        return place(around, self.length, self.level)

    def _noise(self, length: int, rng: np.random.Generator) -> Samples:
        kind = rng.random()
        pool = self.music if kind < 0.2 else self.others if kind < 0.35 else ()
        if not pool:
            return synthesise(length, rng)
        return cut(pool[int(rng.integers(len(pool)))], length, rng)


@dataclass(frozen=True)
class SoundAugmentation:
    """A piece [T] of speech, music or noise to a window [length]; little is done, as a kind of sound is easily changed."""

    length: int
    level: float
    speed: float = 0.15
    reverberation: float = 0.3
    noise: float = 0.5
    telephone: float = 0.25
    mobile: float = 0.25
    colour: float = 0.4

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        """Change a piece; the same generator gives the same change."""
        samples = waveform.change_speed(samples, float(np.exp(rng.uniform(-self.speed, self.speed))))
        samples = cut(samples, self.length, rng, repeat=False)
        if rng.random() < self.reverberation:
            decay_s, direct_db = float(rng.uniform(0.08, 0.7)), float(rng.uniform(0, 15))
            samples = waveform.reverberate(samples, rng, decay_s=decay_s, direct_db=direct_db)
        if rng.random() < self.colour:
            samples = waveform.tilt(samples, rng)
        if rng.random() < self.noise:
            # What stands out stays what it is: noise 8 dB below and more.
            samples = waveform.add_noise(samples, synthesise(self.length, rng), float(rng.uniform(8, 40)))
        if rng.random() < self.telephone:
            samples = waveform.telephone(samples, rng)
        if rng.random() < self.mobile:
            samples = waveform.mobile(samples)
        return place(samples, self.length, self.level)


def cut(samples: Samples, length: int, rng: np.random.Generator, *, repeat: bool = True) -> Samples:
    """A piece [length] of [T] from anywhere; a shorter clip is repeated, or stands somewhere in silence."""
    if len(samples) < length and repeat:
        samples = np.tile(samples, -(-length // max(1, len(samples))))
    if len(samples) < length:
        around = np.zeros(length, np.float32)
        start = int(rng.integers(0, length - len(samples) + 1))
        around[start : start + len(samples)] = samples
        return around
    start = int(rng.integers(0, len(samples) - length + 1))
    return samples[start : start + length]


def cut_word(samples: Samples, rng: np.random.Generator) -> Samples:
    """A piece of speech as long as a command, 0.3 to 1.4 s."""
    length = int(rng.uniform(0.3, 1.4) * RATE_HZ)
    return samples if len(samples) <= length else cut(samples, length, rng)
