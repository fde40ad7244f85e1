"""A request's clip, checked and decoded on a thread."""

from sensorium.speech.v1 import speech_service_pb2 as pb

from services.speech.limits import Bounds
from services.speech.pipeline.decoding import Clip, decode_file, decode_samples
from services.speech.validation import check_audio
from shared.inference.executor import Check, run_while_wanted


async def open_clip(audio: pb.Audio, bounds: Bounds) -> Clip:
    """Check the fields and decode the clip, until the call's deadline passes or the caller leaves.

    Raises:
        InvalidArgument, InvalidArguments: what is wrong with the clip.
    """
    raw = check_audio(audio, bounds)

    def work(check: Check) -> Clip:
        if raw is None:
            return decode_file(audio.content, max_duration_s=bounds.max_audio_s, check=check)
        return decode_samples(
            audio.content,
            dtype=raw.dtype,
            rate_hz=raw.rate_hz,
            channels=raw.channels,
            max_duration_s=bounds.max_audio_s,
            check=check,
        )

    return await run_while_wanted(work)
