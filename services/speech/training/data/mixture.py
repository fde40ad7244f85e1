"""Which clip is drawn as an epoch's item: labels evenly, recordings and synthesised voices in fixed shares.

Lives here: the draw. Not here: what is done with the clip (`augmentation`).
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from services.speech.training.data.clips import Clip

# How often a recording is drawn where a label has some, else a synthesised voice.
REAL_SHARE = 0.4
# How often each synthesiser, of those that have the label; formants alone sound least like people.
ENGINES = {"kokoro": 4.0, "festival": 2.0, "flite": 2.0, "espeak-ng": 2.0}


class Mixture:
    """Clips to draw from, by label and by where they come from."""

    def __init__(self, clips: Sequence[Clip], groups: Sequence[tuple[float, Sequence[str]]]) -> None:
        """`groups`: (share of the draws, labels); within a group every label that has clips is as likely as another."""
        self._real: dict[str, list[Clip]] = defaultdict(list)
        self._made: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
        for clip in clips:
            if clip.real:
                self._real[clip.label].append(clip)
            else:
                self._made[clip.label][clip.voice.split("/", 1)[0]].append(clip)
        held = set(self._real) | set(self._made)
        kept = [(share, [label for label in labels if label in held]) for share, labels in groups]
        self._groups = [labels for share, labels in kept if labels and share > 0]
        shares = np.array([share for share, labels in kept if labels and share > 0])
        self._shares = np.cumsum(shares / shares.sum())

    def draw(self, rng: np.random.Generator) -> Clip:
        """Draw a clip."""
        group = self._groups[
            min(int(np.searchsorted(self._shares, rng.random(), side="right")), len(self._groups) - 1)
        ]
        label = group[int(rng.integers(len(group)))]
        real, made = self._real.get(label), self._made.get(label)
        if real and (not made or rng.random() < REAL_SHARE):
            return real[int(rng.integers(len(real)))]
        engines = sorted(made)
        weights = np.cumsum([ENGINES[engine] for engine in engines])
        engine = engines[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
        clips = made[engine]
        return clips[int(rng.integers(len(clips)))]
