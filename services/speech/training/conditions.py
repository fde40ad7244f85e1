"""Test clips made harder: noise at set distances, rooms, telephone, faster and slower. Never trained on, always the same.

Lives here: the list of conditions. Not here: the changes (`augmentation/waveform.py`).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from services.speech.pipeline.command import Samples
from services.speech.training.augmentation import waveform
from services.speech.training.data.noises import COLOURS, coloured
from shared.training.randomness import item_rng

Change = Callable[[Samples, np.random.Generator], Samples]
# A round of `item_rng` that no training gets to.
_ROUND = 1_000_003
# Half a second of what stands around a word, so that noise is not only under it.
_AROUND = 2_000


def _noisy(snr_db: float) -> Change:
    def change(samples: Samples, rng: np.random.Generator) -> Samples:
        padded = np.pad(samples, _AROUND)
        noise = coloured(len(padded), COLOURS["pink"], rng)
        return waveform.add_noise(padded, noise, snr_db, waveform.rms(samples))

    return change


def _in_a_room(decay_s: float, direct_db: float) -> Change:
    return lambda samples, rng: waveform.reverberate(
        np.pad(samples, (0, _AROUND)), rng, decay_s=decay_s, direct_db=direct_db
    )


CONDITIONS: Mapping[str, Change] = {
    "as recorded": lambda samples, rng: samples,
    "pink noise 20 dB below": _noisy(20.0),
    "pink noise 10 dB below": _noisy(10.0),
    "pink noise 5 dB below": _noisy(5.0),
    "pink noise as loud": _noisy(0.0),
    "a room of 0.3 s": _in_a_room(0.3, 3.0),
    "a hall of 0.8 s": _in_a_room(0.8, 0.0),
    "telephone": waveform.telephone,
    "mobile telephone (GSM)": lambda samples, rng: waveform.mobile(samples),
    "15 % faster": lambda samples, rng: waveform.change_speed(samples, 1.15),
    "15 % slower": lambda samples, rng: waveform.change_speed(samples, 0.85),
}


def change_all(clips: Sequence[Samples], condition: str) -> list[Samples]:
    """Every clip under a condition; each one's randomness is its own."""
    change = CONDITIONS[condition]
    return [change(samples, item_rng(0, _ROUND, at)) for at, samples in enumerate(clips)]
