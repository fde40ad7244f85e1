"""A few spoken digits of other people, from the test data of the recogniser pocketsphinx: for tests only.

In `cards/004.wav` somebody says `five five`, `cards/002.wav` begins with `four`; they are cut at the pauses that stand
below, in seconds. The set's digit string (`tidigits/dhd.2934z.raw`) runs together and cannot be cut.
"""

from pathlib import Path

from services.speech.pipeline.command import RATE_HZ
from services.speech.training import words
from services.speech.training.data.clips import Clip, read_clip

# File, (digit, start, end).
_CUTS = {
    "cards/002.wav": (("4", 0.1, 0.63),),
    "cards/004.wav": (("5", 0.2, 0.7), ("5", 0.88, 1.22)),
}


def read_digits(data: Path) -> list[Clip]:
    """Read the digits.

    Raises:
        DataError: not there, or damaged.
    """
    folder = data / "pocketsphinx" / "usr" / "share" / "pocketsphinx" / "test" / "data"
    clips = []
    for name, cuts in _CUTS.items():
        samples = read_clip(folder / name)
        for digit, start_s, end_s in cuts:
            part = samples[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]
            clips.append(
                Clip(part, words.label_of("en", digit), "cards", "pocketsphinx", f"{name}@{start_s}")
            )
    return clips
