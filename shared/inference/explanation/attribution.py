"""From the runs' scores to what each part adds: a straight-line fit of the score on which parts were there.

That is what LIME fits (Ribeiro, Singh and Guestrin 2016), here with every run of equal weight, as all of them keep about as
much of the input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.inference.explanation.masks import Kept

# Holds the fit together where there are more parts than runs, and hardly moves it where there are fewer: a part's own weight
# in it is a fifth of the runs.
_RIDGE = 0.5


def attribute(kept: Kept, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each part adds to the score when it is there [parts], on average over the runs [runs, parts] and their scores."""
    design = kept.astype(np.float64)
    design -= design.mean(axis=0)
    centred = scores - scores.mean()
    runs, parts = design.shape
    if parts <= runs:
        gram = design.T @ design + _RIDGE * np.eye(parts)
        return np.asarray(np.linalg.solve(gram, design.T @ centred))
    # The same numbers by the smaller of the two systems.
    gram = design @ design.T + _RIDGE * np.eye(runs)
    return np.asarray(design.T @ np.linalg.solve(gram, centred))
