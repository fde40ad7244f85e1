"""A speech detector around its graph: a clip in, spans of speech out."""

from dataclasses import dataclass

from services.speech.pipeline.constants import DetectorConstants
from services.speech.pipeline.decoding import Clip
from services.speech.pipeline.segmentation import Probability, Span, SpeechRule, speech_spans
from shared.inference.artifact import Artifact
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

PREPROCESSING = "audio-16k-mono/1"


@dataclass(frozen=True)
class Speech:
    """Where somebody speaks in a clip: spans in samples, in order, and the probability per chunk [ceil(T / chunk)]."""

    spans: list[Span]
    probability: Probability
    chunk: int


class Detector:
    """What one version of a detector needs; holds no session."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the constants.

        Raises:
            ValueError: the artifact lacks one.
        """
        self._constants = DetectorConstants.model_validate(artifact.constants)

    async def detect(
        self,
        model: Model,
        clip: Clip,
        watch: ItemStopwatch,
        deadline: Deadline,
        *,
        threshold: float | None = None,
    ) -> Speech:
        """Find the speech in a clip; `threshold` None is the model's own."""
        answer = await model.infer({"audio": clip.samples[None]}, outputs=("probability",), deadline=deadline)
        watch.add(answer)
        probability = answer.outputs["probability"][0]
        with watch.postprocessing():
            rule = SpeechRule.of(self._constants, threshold)
            return Speech(speech_spans(probability, len(clip.samples), rule), probability, rule.chunk)
