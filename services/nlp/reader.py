"""How each kind of model reads a text, by the preprocessing that its artifact names.

Here: what is read out of an artifact for it. Not here: the functions on texts (`pipeline`), what the model answers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.nlp.pipeline import ngrams, tokens
from services.nlp.pipeline.script import is_mostly
from services.nlp.reading import Reading, TextReader
from shared.inference.artifact import Artifact

WORDPIECE = "text-wordpiece-uncased/1"
NGRAMS = ngrams.PREPROCESSING


class _Marks(BaseModel):
    """What a wordpiece model needs besides the rule of its tokens."""

    model_config = ConfigDict(frozen=True)

    script: str


class WordpieceReader:
    """For models that read tokens of a `tokenizer.json`."""

    def __init__(self, artifact: Artifact) -> None:
        """Blocks for some 50 ms.

        Raises:
            ValueError, ArtifactError, OSError: the artifact lacks something.
        """
        self._script = _Marks.model_validate(artifact.constants).script
        rule = tokens.TokenRule.model_validate(artifact.constants)
        self._tokenizer = tokens.TextTokenizer(artifact.asset("tokenizer").read_bytes(), rule)

    def read(self, text: str) -> Reading | None:
        """See `TextReader`."""
        found = self._tokenizer.read(text)
        return None if found is None else self._make(found, is_mostly((self._script,), text))

    def read_nothing(self) -> Reading:
        """See `TextReader`: the marks of beginning and end."""
        return self._make(self._tokenizer.read_nothing(), supported=True)

    def find_end(self, text: str) -> int:
        """See `TextReader`."""
        return self._tokenizer.find_end(text)

    def _make(self, found: tokens.Tokens, supported: bool) -> Reading:
        return Reading(tokens.make_row(found), len(found.ids), found.truncated, supported)


class _Scripts(BaseModel):
    """What an n-gram model may say of itself; without it, a text of which it knows nothing is of another script."""

    model_config = ConfigDict(frozen=True)

    scripts: tuple[str, ...] = Field(default=())


class NgramsReader:
    """For models that read n-grams, see `pipeline.ngrams`."""

    def __init__(self, artifact: Artifact) -> None:
        """Raises ValueError, ArtifactError or OSError where the artifact lacks something."""
        self._scripts = _Scripts.model_validate(artifact.constants).scripts
        self._reader = ngrams.NgramReader.open(artifact.constants, artifact.asset("ngrams").read_bytes())

    def read(self, text: str) -> Reading | None:
        """See `TextReader`."""
        found = self._reader.read(text)
        if found is None:
            return None
        supported = found.known > 0 and (not self._scripts or is_mostly(self._scripts, text))
        return Reading(ngrams.make_row(found), max(len(found.ids), 1), found.truncated, supported)

    def read_nothing(self) -> Reading:
        """See `TextReader`: filling only."""
        nothing = ngrams.Ngrams(np.empty(0, np.int64), np.empty(0, np.float32), known=0.0, truncated=False)
        return Reading(ngrams.make_row(nothing), 1, truncated=False, supported=True)

    def find_end(self, text: str) -> int:
        """See `TextReader`."""
        return min(len(text), self._reader.rule.max_characters)


READERS: Mapping[str, Callable[[Artifact], TextReader]] = {WORDPIECE: WordpieceReader, NGRAMS: NgramsReader}
