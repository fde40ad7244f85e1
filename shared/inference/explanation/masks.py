"""Which parts of an input each run keeps.

Not here: what a part is, what the runs gave (`attribution.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Kept = NDArray[np.bool_]  # [runs, parts]; true: the part is there

# Of the parts a run leaves out at random. What the label's score lost, on average, when a twentieth to a half of the words
# that came out on top were taken away: of 40 film reviews (8 to 45 words, 66 runs) .290 with 0.3, .286 with 0.5, .282 with
# 0.15, .284 with each word left out alone, .253 with the subset sizes of Kernel SHAP, .248 with plain means (RISE), .038 for
# random words; of 24 messages of newsgroups (15 to 60 words, 126 runs) .372 with 0.3, .331 with each word alone, .016 for
# random ones. Of 7 photographs (49 cells, 100 runs) it was .68 of the score with 0.3 or with each cell alone, .56 with 0.5,
# .26 for random cells.
_LEFT_OUT = 0.3


def draw_masks(parts: int, runs: int, seed: int = 0) -> Kept:
    """Draw `runs` masks, or all there are of few parts: none is whole, none empty. The same for the same arguments.

    Each part is left out of as many runs as any other, so that chance favours none.
    """
    if parts < 2:
        return np.zeros((0, parts), np.bool_)
    if parts < 63 and (1 << parts) - 2 <= runs:
        numbers = np.arange(1, (1 << parts) - 1)
        return np.asarray((numbers[:, None] >> np.arange(parts)) & 1, np.bool_)
    rng = np.random.default_rng(seed)
    kept = np.ones((runs, parts), np.bool_)
    kept[: max(round(_LEFT_OUT * runs), 1)] = False
    kept = rng.permuted(kept, axis=0)
    # With few parts a run may keep all of them, or none: then one drawn at random is turned round.
    for row in np.flatnonzero(kept.all(axis=1) | ~kept.any(axis=1)):
        part = rng.integers(parts)
        kept[row, part] = not kept[row, part]
    return kept
