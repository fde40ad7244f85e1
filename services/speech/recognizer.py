"""A recogniser around its two graphs: a clip and its speech in, text per stretch out.

Each token is a run of its own through the model's queue. So the deadline and a caller who left end a decoding at the next
token, and the clips of several callers take turns; going through the queue costs 0.3 ms of a step of 5.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from services.speech.detector import Speech
from services.speech.pipeline.constants import RecognizerConstants
from services.speech.pipeline.decoding import Clip, Samples
from services.speech.pipeline.greedy import GreedyDecoding
from services.speech.pipeline.segmentation import Span, StretchRule, stretches
from services.speech.pipeline.vocabulary import Vocabulary
from shared.inference.artifact import Artifact
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

PREPROCESSING = "audio-16k-mono/1"


@dataclass(frozen=True)
class Stretch:
    """What is said in a span of a clip, and whether decoding had to be stopped."""

    span: Span
    text: str
    stopped_early: bool


class Recognizer:
    """What one version of a recogniser needs; holds no session."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the constants and the vocabulary; blocks for some 20 ms.

        Raises:
            ValueError, ArtifactError, OSError: the artifact lacks something.
        """
        self._constants = RecognizerConstants.model_validate(artifact.constants)
        self._vocabulary = Vocabulary(artifact.asset("tokenizer").read_bytes())

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages it knows, as BCP-47 tags; the first is its own."""
        return self._constants.languages

    async def transcribe(
        self, model: Model, clip: Clip, speech: Speech, watch: ItemStopwatch, deadline: Deadline
    ) -> AsyncIterator[Stretch]:
        """Write down stretch after stretch; silent ones are left out."""
        rule = StretchRule.of(self._constants, chunk=speech.chunk)
        for span in stretches(speech.spans, speech.probability, length=len(clip.samples), rule=rule):
            decoding = await self._decode(model, clip.samples[span.start : span.end], watch, deadline)
            with watch.postprocessing():
                text = self._vocabulary.text(decoding.tokens)
            if text:
                yield Stretch(span, text, decoding.stopped_early)

    async def _decode(
        self, model: Model, samples: Samples, watch: ItemStopwatch, deadline: Deadline
    ) -> GreedyDecoding:
        heard = await model.infer(
            {"input_values": samples[None], "attention_mask": np.ones((1, len(samples)), np.int64)},
            graph="encode",
            deadline=deadline,
        )
        watch.add(heard)
        hidden = heard.outputs["last_hidden_state"]
        decoding = GreedyDecoding(self._constants, hidden=hidden, samples=len(samples))
        while not decoding.finished:
            step = await model.infer(decoding.inputs(), graph="decode", deadline=deadline)
            watch.add(step)
            decoding.take(step.outputs)
        return decoding
