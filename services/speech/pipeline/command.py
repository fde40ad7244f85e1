"""From a clip to the fixed window that a command or sound classifier takes: preprocessing `audio-8k/1`.

Lives here: telephone rate, offset and hum, trimming, level, placing, cutting into windows. Log-mel is inside the graph.
Not here: decoding (`decoding`), what is asked of the clip (`services.speech.validation`). Training imports these functions.
"""

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE_HZ = 8_000
# Below the one nothing is kept, above the other all: a telephone begins at 300, a low man's voice at 80.
_NOTHING_HZ, _ALL_HZ = 50.0, 120.0
_AROUND = 1_000  # samples that a clip is mirrored by before it is filtered
_FRAME = 80  # 10 ms
_KEEP = 240  # 30 ms of what stands around the sound: a plosive begins before it is loud
# Quieter than this, -80 dB of full scale, is no sound: 16-bit rounding noise is -98 dB, a quiet room -60.
_NO_SOUND = 1e-4
# Power of a pause beside that of the loudest window.
_PAUSE = 1e-3


def to_8k(samples: Samples, rate_hz: int) -> Samples:
    """Convert samples [T] to 8 kHz, without what lies below any voice.

    An offset or hum of a cheap sound card would keep silence from being found, and begin and end with a click.
    """
    converted = np.asarray(soxr.resample(samples, rate_hz, RATE_HZ), np.float64)
    around = min(_AROUND, len(converted) - 1)
    if around < 1:
        return converted.astype(np.float32)
    # Mirrored at both ends, so that a clip that begins or ends off zero makes no click of it.
    before = 2 * converted[0] - converted[around:0:-1]
    behind = 2 * converted[-1] - converted[-2 : -2 - around : -1]
    extended = np.concatenate([before, converted, behind])
    size = 1 << (len(extended) - 1).bit_length()
    hz = np.fft.rfftfreq(size, 1 / RATE_HZ)
    rising = np.clip((hz - _NOTHING_HZ) / (_ALL_HZ - _NOTHING_HZ), 0.0, 1.0)
    gain = 0.5 - 0.5 * np.cos(np.pi * rising)
    filtered = np.fft.irfft(np.fft.rfft(extended - extended.mean(), size) * gain, size)
    return np.asarray(filtered[around : around + len(converted)], np.float32)


def is_silent(samples: Samples) -> bool:
    """Whether no 10 ms of the samples [T] carry any sound."""
    return float(_power(samples).max(initial=0.0)) < _NO_SOUND**2


def trim(samples: Samples, below_db: float = 35.0) -> Samples:
    """Cut what is quieter than the loudest 10 ms less `below_db` off both ends of [T], but for 30 ms."""
    power = _power(samples)
    if len(power) < 2:
        return samples
    loud = np.flatnonzero(power >= power.max() * 10 ** (-below_db / 10))
    start, end = int(loud[0]) * _FRAME - _KEEP, (int(loud[-1]) + 1) * _FRAME + _KEEP
    # The last frame may be cut short.
    end = len(samples) if end >= len(power) * _FRAME else end
    return samples[max(0, start) : end]


def place(samples: Samples, length: int, level: float) -> Samples:
    """Bring [T] to a root mean square of `level` and put it in the middle of [length]; of longer ones the loudest part."""
    if len(samples) > length:
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        start = int(np.argmax(energy[length:] - energy[:-length]))
        samples = samples[start : start + length]
    out = np.zeros(length, np.float32)
    before = (length - len(samples)) // 2
    out[before : before + len(samples)] = _level(samples, level)
    return out


def windows(samples: Samples, length: int, hop: int, level: float) -> list[Samples]:
    """Cut [T] into windows [length], `hop` apart, the last one ending with the clip; each at the same level.

    Pauses, windows 30 dB quieter than the loudest, are left out: brought to that level they would be noise.
    """
    if len(samples) <= length:
        return [place(samples, length, level)]
    starts: Sequence[int] = [*range(0, len(samples) - length, hop), len(samples) - length]
    found = [samples[start : start + length] for start in starts]
    power = [float(np.mean(np.square(window, dtype=np.float64))) for window in found]
    least = max(power) * _PAUSE
    return [_level(window, level) for window, own in zip(found, power, strict=True) if own >= least]


def _power(samples: Samples) -> NDArray[np.float64]:
    frames = -(-len(samples) // _FRAME)
    padded = np.zeros(frames * _FRAME, np.float64)
    padded[: len(samples)] = samples
    return np.asarray(np.square(padded).reshape(frames, _FRAME).mean(axis=1))


def _level(samples: Samples, level: float) -> Samples:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    return np.asarray(samples * np.float32(level / max(rms, _NO_SOUND)), np.float32)
