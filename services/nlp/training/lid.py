"""fastText's lid.176.ftz (Joulin et al. 2016), the reference of language identification: only ever compared with.

Its labels and ours differ where one of us tells apart what the other does not: `merge` brings both to the coarser.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.training.errors import DataError

# Chinese by script and Serbian by script are one label each for fastText, which says `no` for Bokmål and `sh` for what is
# Serbian in Latin letters.
_MERGED = {"zh-Hans": "zh", "zh-Hant": "zh", "sr-Latn": "sr", "sh": "sr", "no": "nb"}
_PREFIX = "__label__"


def merge(language: str) -> str:
    """The label that both models can give."""
    return _MERGED.get(language, language)


class Lid:
    """The model, opened from its file; nothing is fetched."""

    def __init__(self, data: Path) -> None:
        """data: folder of the datasets.

        Raises:
            DataError: the file is not there.
        """
        import fasttext

        files = sorted((data / "lid176").glob("**/lid.176.ftz"))
        if not files:
            raise DataError(
                data / "lid176",
                expected="lid.176.ftz",
                got="no such file",
                advice="run `sensorium data pull lid176`",
            )
        self._model = fasttext.load_model(str(files[0]))
        # A threshold below every score gives all labels.
        self.languages = frozenset(map(merge, self._predict("the house", count=1000, threshold=-1.0)))

    def answer(self, texts: Sequence[str]) -> NDArray[np.str_]:
        """The best label of each text, merged; empty where it has none."""
        return np.array([merge(next(iter(self._predict(text)), "")) for text in texts])

    def _predict(self, text: str, count: int = 1, threshold: float = 0.0) -> list[str]:
        labels, _ = self._model.predict(text.replace("\n", " "), k=count, threshold=threshold)
        return [label.removeprefix(_PREFIX) for label in labels]
