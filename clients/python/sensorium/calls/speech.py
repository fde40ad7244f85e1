"""Calls about clips. The rpcs take one clip each: a list becomes as many calls, a few of them at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from sensorium.calls.plan import Plan, Request, Rpc, seconds, timing
from sensorium.calls.plan import model as model_of
from sensorium.errors import SensoriumError
from sensorium.inputs import Audio, read_audio
from sensorium.results import (
    Command,
    Result,
    Segment,
    SpeakerEmbedding,
    SpeechSegments,
    SpokenCommand,
    Transcript,
    TranscriptSegment,
)
from sensorium.speech.v1 import speech_service_pb2 as pb2

_SERVICE = "/sensorium.speech.v1.SpeechService"
_TRANSCRIBE = Rpc(f"{_SERVICE}/Transcribe", pb2.TranscribeRequest, pb2.TranscribeResponse)
_DETECT = Rpc(f"{_SERVICE}/DetectSpeech", pb2.DetectSpeechRequest, pb2.DetectSpeechResponse)
_EMBED = Rpc(f"{_SERVICE}/EmbedSpeaker", pb2.EmbedSpeakerRequest, pb2.EmbedSpeakerResponse)
_COMMAND = Rpc(f"{_SERVICE}/RecognizeCommand", pb2.RecognizeCommandRequest, pb2.RecognizeCommandResponse)

R = TypeVar("R", bound=Result)


def transcribe(clips: Sequence[Audio], *, model: str, language: str) -> Plan[list[Transcript]]:
    """See `Client.transcribe`."""
    return _plan(
        _TRANSCRIBE,
        clips,
        lambda audio: pb2.TranscribeRequest(model=model, audio=audio, language=language),
        Transcript,
        lambda reply: {
            "text": reply.text,
            "segments": tuple(
                TranscriptSegment(*_bounds(one.segment), text=one.text, stopped_early=one.stopped_early)
                for one in reply.segments
            ),
            "audio_s": seconds(reply.audio_duration),
            "language": reply.language,
        },
    )


def detect_speech(
    clips: Sequence[Audio], *, model: str, threshold: float | None
) -> Plan[list[SpeechSegments]]:
    """See `Client.detect_speech`."""
    return _plan(
        _DETECT,
        clips,
        lambda audio: pb2.DetectSpeechRequest(model=model, audio=audio, threshold=threshold),
        SpeechSegments,
        lambda reply: {
            "segments": tuple(Segment(*_bounds(one)) for one in reply.segments),
            "speech_s": seconds(reply.speech_duration),
            "audio_s": seconds(reply.audio_duration),
            "max_probability": reply.max_probability,
        },
    )


def embed_speaker(clips: Sequence[Audio], *, model: str) -> Plan[list[SpeakerEmbedding]]:
    """See `Client.embed_speaker`."""
    return _plan(
        _EMBED,
        clips,
        lambda audio: pb2.EmbedSpeakerRequest(model=model, audio=audio),
        SpeakerEmbedding,
        lambda reply: {"values": tuple(reply.embedding.values), "speech_s": seconds(reply.speech_duration)},
    )


def recognize_command(
    clips: Sequence[Audio], *, model: str, max_results: int, language: str
) -> Plan[list[SpokenCommand]]:
    """See `Client.recognize_command`."""
    return _plan(
        _COMMAND,
        clips,
        lambda audio: pb2.RecognizeCommandRequest(
            model=model, audio=audio, max_results=max_results, language=language
        ),
        SpokenCommand,
        lambda reply: {
            "commands": tuple(Command(one.label, one.language, one.score) for one in reply.commands),
            "audio_s": seconds(reply.audio_duration),
        },
    )


def _plan(
    rpc: Rpc,
    clips: Sequence[Audio],
    ask: Callable[[pb2.Audio], Message],
    kind: type[R],
    parse: Callable[[Any], dict[str, Any]],
) -> Plan[list[R]]:
    def finish(replies: Sequence[Any]) -> list[R]:
        return [
            kind(error=reply)
            if isinstance(reply, SensoriumError)
            else kind(model=model_of(reply.model), timing=timing(reply.timing), **parse(reply))
            for reply in replies
        ]

    requests = [Request(ask(read_audio(clip))) for clip in clips]
    return Plan(rpc, requests, finish, keeps_failures=True)


def _bounds(segment: pb2.Segment) -> tuple[float, float]:
    return seconds(segment.start), seconds(segment.end)
