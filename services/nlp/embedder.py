"""A sentence-embedding model with what it needs around its graph: its reader in front, unit vectors out, and with labels
beside the texts, how near each is.

Not here: requests and replies (`rpc`), the functions on texts and tensors (`pipeline`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict

from services.nlp.pipeline.similarity import score
from services.nlp.reader import WordpieceReader
from services.nlp.reading import Reading, TextReader
from services.nlp.running import Row, run_readings
from services.nlp.score import Scores
from shared.inference.artifact import Artifact
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

OUTPUT = "embedding"


class EmbedderConstants(BaseModel):
    """What the artifact says beside what its reader needs."""

    model_config = ConfigDict(frozen=True)

    classify_scale: float


class Embedder:
    """What one version of a model needs; holds no session."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the constants and the tokenizer; blocks for some 50 ms.

        Raises:
            ValueError, ArtifactError, OSError: the artifact lacks something.
        """
        self.digest = artifact.digest
        self.constants = EmbedderConstants.model_validate(artifact.constants)
        self.reader: TextReader = WordpieceReader(artifact)

    def read_own(self, text: str) -> Reading:
        """Read a text of our own making, which says something."""
        reading = self.reader.read(text)
        if reading is None:
            raise ValueError(f"expected a text with at least one token, got {text!r}")
        return reading

    async def embed(
        self, model: Model, texts: Sequence[Reading], watches: Sequence[ItemStopwatch], deadline: Deadline
    ) -> list[Row]:
        """Run the model: one unit vector [D] per text, in order."""
        return await run_readings(model, texts, OUTPUT, watches, deadline)


class LabelVectors:
    """Vectors of labels that were asked for lately: callers send the same labels with every text."""

    def __init__(self, max_size: int) -> None:
        """Keep at most `max_size` of them; the least recently used goes first."""
        self._max_size = max_size
        self._vectors: OrderedDict[tuple[str, str], Row] = OrderedDict()

    async def get(
        self,
        embedder: Embedder,
        model: Model,
        phrases: Sequence[str],
        watch: ItemStopwatch,
        deadline: Deadline,
    ) -> Row:
        """Give the vectors [L, D] of `phrases`, running the model for those that are not known."""
        vectors = {phrase: self._take((embedder.digest, phrase)) for phrase in phrases}
        missing = [phrase for phrase, vector in vectors.items() if vector is None]
        if missing:
            readings = [embedder.read_own(phrase) for phrase in missing]
            watches = [ItemStopwatch() for _ in readings]
            made = await embedder.embed(model, readings, watches, deadline)
            # They ran side by side: the longest is what was waited for.
            longest = max(watches, key=lambda one: one.queue_s + one.compute_s)
            watch.queue_s += longest.queue_s
            watch.compute_s += longest.compute_s
            for phrase, vector in zip(missing, made, strict=True):
                # A copy: the row is a view that would keep its whole batch alive.
                vectors[phrase] = self._vectors[embedder.digest, phrase] = vector.copy()
            while len(self._vectors) > self._max_size:
                self._vectors.popitem(last=False)
        found = (vectors[phrase] for phrase in phrases)
        return np.stack([vector for vector in found if vector is not None])

    def _take(self, key: tuple[str, str]) -> Row | None:
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector


@dataclass(frozen=True)
class Comparison:
    """An embedder with labels to compare texts with: a `Scorer`."""

    labels: tuple[str, ...]
    reader: TextReader
    vectors: Row  # [L, D]
    scale: float
    output: str = OUTPUT

    def score(self, row: Row) -> Scores:
        """Shares and similarities of a text's vector [D]."""
        shares, similarities = score(row, self.vectors, self.scale)
        return Scores(shares, similarities)
