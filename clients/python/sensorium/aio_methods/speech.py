"""Calls about clips."""

from typing import TypeVar, overload

from sensorium.aio_methods.runner import AsyncRunner
from sensorium.calls import speech
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.inputs import Audio
from sensorium.results import SpeakerEmbedding, SpeechSegments, SpokenCommand, Transcript

AudioT = TypeVar("AudioT", bound=Audio)


class AsyncSpeechMethods(AsyncRunner):
    """See `sensorium.aio.AsyncClient`."""

    @overload
    async def transcribe(
        self,
        audio: Audio,
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> Transcript: ...
    @overload
    async def transcribe(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[Transcript]: ...
    async def transcribe(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Transcript | list[Transcript]:
        """See `Client.transcribe`."""
        inputs, many = as_list(audio)
        plan = speech.transcribe(inputs, model=model, language=language)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_speech(
        self,
        audio: Audio,
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeechSegments: ...
    @overload
    async def detect_speech(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeechSegments]: ...
    async def detect_speech(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        threshold: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeechSegments | list[SpeechSegments]:
        """See `Client.detect_speech`."""
        inputs, many = as_list(audio)
        plan = speech.detect_speech(inputs, model=model, threshold=threshold)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def recognize_command(
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
    async def recognize_command(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpokenCommand]: ...
    async def recognize_command(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        max_results: int = 5,
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpokenCommand | list[SpokenCommand]:
        """See `Client.recognize_command`."""
        inputs, many = as_list(audio)
        plan = speech.recognize_command(inputs, model=model, max_results=max_results, language=language)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def embed_speaker(
        self,
        audio: Audio,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeakerEmbedding: ...
    @overload
    async def embed_speaker(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeakerEmbedding]: ...
    async def embed_speaker(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeakerEmbedding | list[SpeakerEmbedding]:
        """See `Client.embed_speaker`."""
        inputs, many = as_list(audio)
        plan = speech.embed_speaker(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)
