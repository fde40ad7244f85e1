"""A sentence-embedding model with what it needs around its graph: tokenizer in front, rows in, vectors out.

Not here: requests and replies (`servicer`), the functions on texts and tensors (`pipeline`).
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.nlp.limits import Bounds
from services.nlp.pipeline.tokens import TextTokenizer, TokenRule, Tokens, group_rows, make_rows
from services.nlp.reading import Reading, read_texts
from shared.errors import InvalidArgument
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

Vectors = NDArray[np.float32]

PREPROCESSING = "text-wordpiece-uncased/1"
# Tokenizing this many characters takes 0.2 ms, less than going to a thread and back under load.
_INLINE_CHARACTERS = 1024


class EmbedderConstants(BaseModel):
    """What the artifact says beside the tokens' rule."""

    model_config = ConfigDict(frozen=True)

    script: str
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
        self.rule = TokenRule.model_validate(artifact.constants)
        self._max_rows = max(1, artifact.graphs["model"].max_batch_size)
        self._tokenizer = TextTokenizer(artifact.asset("tokenizer").read_bytes(), self.rule)

    async def read(
        self, texts: Sequence[str], bounds: Bounds, deadline: Deadline
    ) -> list[Reading | InvalidArgument]:
        """Check and tokenize texts; one reading, or why there is none, for each in order."""

        def check() -> None:
            deadline.check("tokenizing the texts")

        def work() -> list[Reading | InvalidArgument]:
            return read_texts(
                texts, self._tokenizer, script=self.constants.script, bounds=bounds, check=check
            )

        small = sum(map(len, texts)) <= _INLINE_CHARACTERS
        return work() if small else await run_in_executor(work)

    def tokenize(self, text: str) -> Tokens:
        """Tokenize a text of our own making, which says something."""
        tokens = self._tokenizer.read(text)
        if tokens is None:
            raise ValueError(f"expected a text with at least one token, got {text!r}")
        return tokens

    async def embed(
        self, model: Model, texts: Sequence[Tokens], watches: Sequence[ItemStopwatch], deadline: Deadline
    ) -> list[Vectors]:
        """Run the model: one unit vector [D] per text, in order.

        Texts of like length run together. One run follows the other, so that other callers get in between.
        """
        vectors: list[Vectors] = [np.empty(0, np.float32)] * len(texts)
        for group in group_rows(texts, self._max_rows):
            rows = make_rows([texts[index] for index in group], self.rule)
            answer = await model.infer(rows, outputs=("embedding",), deadline=deadline)
            for row, index in enumerate(group):
                vectors[index] = answer.outputs["embedding"][row]
                watches[index].add(answer)
        return vectors


class LabelVectors:
    """Vectors of labels that were asked for lately: callers send the same labels with every text."""

    def __init__(self, max_size: int) -> None:
        """Keep at most `max_size` of them; the least recently used goes first."""
        self._max_size = max_size
        self._vectors: OrderedDict[tuple[str, str], Vectors] = OrderedDict()

    async def get(
        self,
        embedder: Embedder,
        model: Model,
        phrases: Sequence[str],
        watch: ItemStopwatch,
        deadline: Deadline,
    ) -> Vectors:
        """Give the vectors [L, D] of `phrases`, running the model for those that are not known."""
        vectors = {phrase: self._take((embedder.digest, phrase)) for phrase in phrases}
        missing = [phrase for phrase, vector in vectors.items() if vector is None]
        if missing:
            tokens = [embedder.tokenize(phrase) for phrase in missing]
            made = await embedder.embed(model, tokens, [watch] * len(missing), deadline)
            for phrase, vector in zip(missing, made, strict=True):
                # A copy: the row is a view that would keep its whole batch alive.
                vectors[phrase] = self._vectors[embedder.digest, phrase] = vector.copy()
            while len(self._vectors) > self._max_size:
                self._vectors.popitem(last=False)
        found = (vectors[phrase] for phrase in phrases)
        return np.stack([vector for vector in found if vector is not None])

    def _take(self, key: tuple[str, str]) -> Vectors | None:
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector
