"""A voice encoder around its graph: a clip and its speech in, one vector out."""

import numpy as np
from numpy.typing import NDArray

from services.speech.detector import Speech
from services.speech.pipeline.constants import VoiceConstants
from services.speech.pipeline.decoding import Clip, Samples
from services.speech.pipeline.voice import keep_speech, mean_vector, partials
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

PREPROCESSING = "audio-16k-mono-speech/1"
# Windows per run: 30 ms of one core, so that a short clip of another caller gets its turn during a long one.
_RUN_ROWS = 8


class VoiceEncoder:
    """What one version of a voice encoder needs; holds no session."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the constants.

        Raises:
            ValueError: the artifact lacks one.
        """
        self._constants = VoiceConstants.model_validate(artifact.constants)
        self._rows = max(1, min(_RUN_ROWS, artifact.graphs["model"].max_batch_size))

    async def embed(
        self, model: Model, clip: Clip, speech: Speech, watch: ItemStopwatch, deadline: Deadline
    ) -> NDArray[np.float32]:
        """Describe the voice of a clip with at least one span of speech: unit vector [D]."""

        def cut() -> list[Samples]:
            return partials(keep_speech(clip.samples, speech.spans), self._constants)

        with watch.preprocessing():
            windows = await run_in_executor(cut)
        parts = []
        for start in range(0, len(windows), self._rows):
            rows = np.stack(windows[start : start + self._rows])
            answer = await model.infer({"audio": rows}, outputs=("embedding",), deadline=deadline)
            watch.add(answer)
            parts.append(answer.outputs["embedding"])
        with watch.postprocessing():
            return mean_vector(np.concatenate(parts))
