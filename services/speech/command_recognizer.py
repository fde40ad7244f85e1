"""A recogniser of commands or kinds of sound around its graph: a clip in, labels with scores out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.speech.pipeline import command
from services.speech.pipeline.constants import CommandConstants
from services.speech.pipeline.decoding import SAMPLE_RATE_HZ, Clip
from shared.errors import InvalidArgument
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

PREPROCESSING = "audio-8k/1"


@dataclass(frozen=True)
class Recognized:
    """A label, the language it is said in (BCP-47, or empty) and its probability."""

    label: str
    language: str
    score: float


class CommandRecognizer:
    """What one version of such a model needs; holds no session."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the constants.

        Raises:
            ValueError: the artifact lacks one.
        """
        self._constants = CommandConstants.model_validate(artifact.constants)
        self._rows = max(1, artifact.graphs["model"].max_batch_size)
        self._names = [split_label(label) for label in self._constants.labels]
        self.languages = tuple(dict.fromkeys(language for _, language in self._names if language))

    async def recognize(
        self,
        model: Model,
        clip: Clip,
        watch: ItemStopwatch,
        deadline: Deadline,
        *,
        max_results: int,
        language: str = "",
    ) -> list[Recognized]:
        """Say what a clip is, best first; with a language, one of `languages`, only what is said in that.

        Raises:
            InvalidArgument: the clip is longer than the model takes, or nothing is heard in it.
        """
        constants = self._constants
        if clip.duration_s > constants.max_audio_s:
            raise InvalidArgument(
                "audio.content",
                expected=f"at most {constants.max_audio_s:g} s for {model.name}",
                got=f"{clip.duration_s:.2f} s",
                fix="cut the clip at its pauses; DetectSpeech says where they are",
            )
        with watch.preprocessing():
            rows = await run_in_executor(self._prepare, clip)
        logits = []
        for start in range(0, len(rows), self._rows):
            answer = await model.infer(
                {"audio": rows[start : start + self._rows]}, outputs=("logits",), deadline=deadline
            )
            watch.add(answer)
            logits.append(answer.outputs["logits"])
        with watch.postprocessing():
            return self._name(np.concatenate(logits), max_results, language)

    def _prepare(self, clip: Clip) -> NDArray[np.float32]:
        constants = self._constants
        samples = command.to_8k(clip.samples, SAMPLE_RATE_HZ)
        if command.is_silent(samples):
            raise InvalidArgument(
                "audio.content",
                expected="a clip in which something is heard",
                got=f"{clip.duration_s:.2f} s of silence",
                fix="check the microphone and its level",
            )
        if constants.hop_samples is None:
            return command.place(command.trim(samples), constants.samples, constants.level)[None]
        return np.stack(command.windows(samples, constants.samples, constants.hop_samples, constants.level))

    def _name(self, logits: NDArray[np.float32], max_results: int, language: str) -> list[Recognized]:
        known = np.array([at for at, (_, own) in enumerate(self._names) if language in ("", own)])
        logits = logits[:, known]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        scores = (shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0)
        # Stable, so that labels of equal score stand in the order of the artifact.
        order = np.argsort(-scores, kind="stable")[:max_results]
        return [
            Recognized(label, own, float(scores[at]))
            for at in order
            for label, own in [self._names[known[at]]]
        ]


def split_label(label: str) -> tuple[str, str]:
    """Take a label of an artifact apart: `en:7` is the command `7` in English, `music` has no language."""
    language, colon, name = label.partition(":")
    return (name, language) if colon else (label, "")
