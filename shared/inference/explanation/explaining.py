"""One input's parts explained: masks drawn, run, put down to the parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidArgument
from shared.inference.explanation.attribution import attribute
from shared.inference.explanation.masks import draw_masks
from shared.inference.explanation.probe import Probe

# Fewer say nothing of a text of ten words; the default is where more bring little (see README).
MIN_RUNS = 16
DEFAULT_RUNS = 128
# The runs of the input with all its parts, and with none.
_WHOLE_AND_NONE = 2


@dataclass(frozen=True)
class Explanation:
    """What each part adds to the score, [parts], and the score without any part."""

    attributions: NDArray[np.float64]
    base_score: float


def choose_runs(asked: int, most: int) -> int:
    """How many runs a request's `max_runs` means where `most` are allowed.

    Raises:
        InvalidArgument: too few or too many.
    """
    default = min(DEFAULT_RUNS, most)
    if asked and not MIN_RUNS <= asked <= most:
        raise InvalidArgument(
            "max_runs", expected=f"{MIN_RUNS} to {most}, or 0 for {default}", got=str(asked)
        )
    return asked or default


def count_parts(runs: int) -> int:
    """Into how many parts an input may be cut for so many runs: half as many, of more too little would be known of each."""
    return max((runs - _WHOLE_AND_NONE) // 2, 1)


async def explain(probe: Probe, parts: int, runs: int, score: float) -> Explanation:
    """Explain the `score` of an input of so many parts in at most `runs` runs, the one that gave the score among them.

    The same for the same input and model.

    Raises:
        DeadlineExceeded, ResourceExhausted: as `Probe.run`.
    """
    kept = draw_masks(parts, runs - _WHOLE_AND_NONE)
    nothing = np.zeros((1, parts), np.bool_)
    scores = await probe.run(np.concatenate([nothing, kept]))
    base_score = float(scores[0])
    if not len(kept):
        # Of one part there is nothing to tell apart.
        return Explanation(np.full(parts, score - base_score), base_score)
    return Explanation(attribute(kept, scores[1:]), base_score)
