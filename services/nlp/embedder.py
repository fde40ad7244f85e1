"""A sentence-embedding model with what it needs around its graph: tokenizer in front, rows in, vectors out.

Not here: requests and replies (`servicer`), the functions on texts and tensors (`pipeline`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.nlp.limits import Bounds
from services.nlp.pipeline.tokens import TextTokenizer, TokenRule, Tokens, make_row
from services.nlp.reading import Reading, read_texts
from shared.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

Vectors = NDArray[np.float32]

PREPROCESSING = "text-wordpiece-uncased/1"
# Tokenizing this many characters takes 0.2 ms, less than going to a thread and back under load.
_INLINE_CHARACTERS = 1024
# Tokens of one call that wait at a time: enough for some batches (of 64 to 128 tokens on a CPU, of 32 short texts on a
# GPU), and few enough that a text of another call of the same principal does not wait for the whole of a long list.
_WINDOW_TOKENS = 1024


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

        Each text is an item of its own, and the batcher finds others of like length for it, from other callers as well.
        """
        vectors: list[Vectors] = [np.empty(0, np.float32)] * len(texts)

        async def run(index: int) -> None:
            answer = await model.infer(make_row(texts[index]), outputs=("embedding",), deadline=deadline)
            vectors[index] = answer.outputs["embedding"][0]
            watches[index].add(answer)

        if len(texts) == 1:
            await run(0)
            return vectors
        # Short ones first, so that those of like length wait side by side.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index].ids))
        try:
            await _run_windowed(run, [(index, len(texts[index].ids)) for index in order])
        except ResourceExhausted:
            # One text may be refused for those of its own call before it: then coming back does not help.
            needed_s = sum(len(text.ids) for text in texts) * model.graphs["model"].batcher.load().s_per_cost
            if (left_s := deadline.remaining_s()) < needed_s:
                what = f"embedding {len(texts)} texts"
                raise DeadlineExceeded(what, left_s=left_s, needed_s=needed_s) from None
            raise
        return vectors


async def _run_windowed(
    run: Callable[[int], Coroutine[Any, Any, None]], parts: Sequence[tuple[int, int]]
) -> None:
    """Run each of `parts` (index, tokens) beside the others, as many as fit the window at a time.

    Raises what the first to fail raises, once the others have ended.
    """
    running: dict[asyncio.Task[None], int] = {}
    try:
        for index, tokens in parts:
            while running and sum(running.values()) + tokens > _WINDOW_TOKENS:
                await _wait_first(running)
            running[asyncio.create_task(run(index))] = tokens
        while running:
            await _wait_first(running)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
            # Of several failures one is told; asking for the others keeps them out of the log.
            for task in running:
                if not task.cancelled():
                    task.exception()


async def _wait_first(running: dict[asyncio.Task[None], int]) -> None:
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del running[task]
    # All are asked, so that of several failures none is logged as one that nobody has seen.
    for error in [task.exception() for task in done]:
        if error is not None:
            raise error


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
            watches = [ItemStopwatch() for _ in tokens]
            made = await embedder.embed(model, tokens, watches, deadline)
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

    def _take(self, key: tuple[str, str]) -> Vectors | None:
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector
