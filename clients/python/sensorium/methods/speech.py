"""Calls about clips."""

from typing import TypeVar, overload

from sensorium.calls import speech
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.inputs import Audio
from sensorium.methods.runner import Runner
from sensorium.results import SpeakerEmbedding, SpeechSegments, SpokenCommand, Transcript

AudioT = TypeVar("AudioT", bound=Audio)


class SpeechMethods(Runner):
    """See `sensorium.client.Client`."""

    @overload
    def transcribe(
        self,
        audio: Audio,
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[Transcript]: ...
    def transcribe(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Transcript | list[Transcript]:
        """Writes down what is said. language: a BCP-47 tag; empty means the model's only one."""
        inputs, many = as_list(audio)
        plan = speech.transcribe(inputs, model=model, language=language)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_speech(
        self,
        audio: Audio,
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeechSegments: ...
    @overload
    def detect_speech(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeechSegments]: ...
    def detect_speech(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        threshold: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeechSegments | list[SpeechSegments]:
        """Says when somebody speaks. threshold: probability, above 0 and below 1; None means the model's own."""
        inputs, many = as_list(audio)
        plan = speech.detect_speech(inputs, model=model, threshold=threshold)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def recognize_command(
        self,
        audio: Audio,
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpokenCommand: ...
    @overload
    def recognize_command(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpokenCommand]: ...
    def recognize_command(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        max_results: int = 5,
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpokenCommand | list[SpokenCommand]:
        """Says which of the model's commands is spoken in a short clip: the `max_results` most probable ones.

        With a `language` (BCP-47) only its commands are answered, which makes right answers much likelier.
        """
        inputs, many = as_list(audio)
        plan = speech.recognize_command(inputs, model=model, max_results=max_results, language=language)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def embed_speaker(
        self,
        audio: Audio,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeakerEmbedding: ...
    @overload
    def embed_speaker(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeakerEmbedding]: ...
    def embed_speaker(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeakerEmbedding | list[SpeakerEmbedding]:
        """Turns a voice into a vector; clips of one speaker have a high `similarity`."""
        inputs, many = as_list(audio)
        plan = speech.embed_speaker(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)
