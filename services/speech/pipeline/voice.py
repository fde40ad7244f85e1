"""Resemblyzer's way from speech to the rows of its graph, and from their vectors to one.

Source: resemblyzer 0.1.4, `audio.normalize_volume`, `VoiceEncoder.compute_partial_slices` and `embed_utterance`. Its
own silence trimming (WebRTC's detector) is replaced by cutting to the speech that Silero finds.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.speech.pipeline.constants import VoiceConstants
from services.speech.pipeline.segmentation import Span

Samples = NDArray[np.float32]


def keep_speech(samples: Samples, spans: Sequence[Span]) -> Samples:
    """Join the spans of a clip [T]."""
    return np.concatenate([samples[start:end] for start, end in spans])


def partials(samples: Samples, constants: VoiceConstants) -> list[Samples]:
    """Cut speech [T], T >= 1, into overlapping windows [partial_samples], which hold the context the mel filters need.

    Quiet speech is made louder first, loud speech is left as it is. The last window is dropped if it would be mostly
    padding, unless it is the only one.
    """
    hop, context = constants.hop_samples, constants.context_samples
    width, step = constants.partial_frames, constants.frame_step
    samples = _raise_volume(samples, constants.target_dbfs)
    frames = math.ceil((len(samples) + 1) / hop)
    starts = list(range(0, max(1, frames - width + step + 1), step))
    if len(starts) > 1 and (len(samples) - hop * starts[-1]) / (hop * width) < constants.min_coverage:
        starts.pop()
    size = constants.partial_samples
    padded = np.zeros(max(starts[-1] * hop + size, context + len(samples)), np.float32)
    padded[context : context + len(samples)] = samples
    # Views: ten minutes are 780 windows, 80 MB if they were copied.
    return [padded[start * hop : start * hop + size] for start in starts]


def mean_vector(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average unit vectors [P, D] to one of unit length [D]."""
    mean = embeddings.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def _raise_volume(samples: Samples, target_dbfs: float) -> Samples:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    if rms == 0.0:
        return samples
    gain = 10 ** ((target_dbfs - 20 * math.log10(rms)) / 20)
    return samples * np.float32(gain) if gain > 1 else samples
