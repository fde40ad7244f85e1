"""The bounds of every rpc, checked before a clip is decoded, and how they are told to those who ask.

Lives here: the numbers. Not here: the checks (`validation`, `pipeline.decoding`).
"""

from google.protobuf import duration_pb2
from pydantic import BaseModel, ConfigDict, Field
from sensorium.types.v1 import limits_pb2

SERVICE = "sensorium.speech.v1.SpeechService"
RPCS = ("Transcribe", "DetectSpeech", "RecognizeCommand", "EmbedSpeaker")


class Bounds(BaseModel):
    """What the service accepts, and how much of it at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_audio_s: float = Field(default=600.0, gt=0, le=3600, description="length of one clip")
    # Below the largest message, so that a clip that is too large is told so by its field's name.
    max_audio_bytes: int = Field(default=30 * 2**20, ge=1, description="bytes of one encoded clip")
    # A clip of 10 minutes is 38 MB once decoded, and up to 60 MB before (message and bytes): 16 of them are 1.6 GB.
    max_clips: int = Field(default=16, ge=1, description="clips in work at a time; the next call waits")


def describe(bounds: Bounds, max_message_bytes: int) -> list[limits_pb2.RpcLimits]:
    """Say the bounds as GetLimits tells them, one entry per rpc."""
    max_audio = duration_pb2.Duration()
    max_audio.FromNanoseconds(round(bounds.max_audio_s * 1e9))
    return [
        limits_pb2.RpcLimits(
            method=f"{SERVICE}/{rpc}",
            max_message_bytes=max_message_bytes,
            max_items=1,
            max_item_bytes=bounds.max_audio_bytes,
            max_audio=max_audio,
        )
        for rpc in RPCS
    ]
