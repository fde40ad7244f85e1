"""Changes to samples: speed, gain, shift, room, noise, telephones. Each is a function of samples and a generator.

Lives here: single changes. Not here: how often and how much (`recipe`), masks over energies (`spectrum`).
"""

import io

import numpy as np
import soundfile
import soxr

from services.speech.pipeline.command import RATE_HZ, Samples


def change_speed(samples: Samples, factor: float) -> Samples:
    """Play [T] `factor` times as fast: shorter and higher, as a smaller or hastier speaker."""
    # The rates are whole numbers to the resampler; a step of 1 Hz is fine enough.
    return np.asarray(soxr.resample(samples, round(RATE_HZ * factor), RATE_HZ, quality="LQ"), np.float32)


def reverberate(samples: Samples, rng: np.random.Generator, *, decay_s: float, direct_db: float) -> Samples:
    """Put [T] into a synthetic room: noise that decays by 60 dB in `decay_s`, `direct_db` below the direct sound.

    The result has the same length; what rings on after the end is cut. Source of the model: Moorer, "About this
    reverberation business", 1979: a late room response is exponentially decaying noise.
    """
    length = max(2, int(decay_s * RATE_HZ))
    time_s = np.arange(length) / RATE_HZ
    response = rng.standard_normal(length) * 10 ** (-3 * time_s / decay_s)
    # Nothing comes back in the first milliseconds, the way to the nearest wall and back.
    response[: int(rng.uniform(0.001, 0.01) * RATE_HZ)] = 0.0
    energy = float(np.sum(np.square(response)))
    response *= 10 ** (-direct_db / 20) / np.sqrt(max(energy, 1e-12))
    response[0] = 1.0
    return convolve(samples, response)


def convolve(samples: Samples, response: np.ndarray) -> Samples:
    """Filter [T] by a response, cut to T."""
    size = 1 << int(np.ceil(np.log2(len(samples) + len(response))))
    product = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(product, size)[: len(samples)], np.float32)


def add_noise(samples: Samples, noise: Samples, snr_db: float, loudness: float | None = None) -> Samples:
    """Add noise [T] to [T] so that the signal is `snr_db` above it.

    `loudness`: root mean square of the signal while it sounds, if `samples` has silence around it.
    """
    signal = loudness if loudness is not None else rms(samples)
    level = rms(noise)
    if level == 0.0 or signal == 0.0:
        return samples
    return np.asarray(samples + noise * np.float32(signal / level * 10 ** (-snr_db / 20)), np.float32)


def telephone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Send [T] over a telephone: 300 to 3400 Hz with uneven edges, then 8-bit mu-law (G.711)."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    low, high = rng.uniform(150, 350), rng.uniform(3200, 3700)
    gain = 1 / (1 + (low / np.maximum(hz, 1.0)) ** 6) / (1 + (hz / high) ** 12)
    filtered = np.fft.irfft(spectrum * gain, len(samples))
    peak = max(float(np.abs(filtered).max(initial=0.0)), 1e-9)
    scaled = filtered / peak
    coded = np.round(np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256) * 127) / 127
    return np.asarray(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * peak, np.float32)


def mobile(samples: Samples) -> Samples:
    """Send [T] through the codec of the first digital mobile telephones (GSM 06.10, 13 kbit/s), as libsndfile has it."""
    file = io.BytesIO()
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-9)
    soundfile.write(file, samples * np.float32(0.7 / peak), RATE_HZ, format="WAV", subtype="GSM610")
    file.seek(0)
    # Frames of 20 ms: the last one is filled up.
    coded, _ = soundfile.read(file, frames=len(samples), dtype="float32", fill_value=0.0)
    return np.asarray(coded * np.float32(peak / 0.7), np.float32)


def tilt(samples: Samples, rng: np.random.Generator) -> Samples:
    """Colour [T] as a microphone or loudspeaker would: up to 6 dB per octave up or down, with a bump."""
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), 50.0)
    octaves = np.log2(hz / 1000)
    centre, depth_db = rng.uniform(-2, 1.8), rng.uniform(-6, 6)
    gain_db = rng.uniform(-4, 4) * octaves + depth_db * np.exp(-np.square(octaves - centre) / 0.5)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain_db / 20), len(samples)), np.float32)


def rms(samples: Samples) -> float:
    """Root mean square of [T]; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
