"""A request's clip, checked and decoded on a thread."""

import threading

from sensorium.speech.v1 import speech_service_pb2 as pb

from services.speech.limits import Bounds
from services.speech.pipeline.decoding import Clip, decode_file, decode_samples
from services.speech.validation import check_audio
from shared.errors import Cancelled
from shared.inference.executor import run_in_executor
from shared.rpc.deadline import Deadline


async def open_clip(audio: pb.Audio, bounds: Bounds, deadline: Deadline) -> Clip:
    """Check the fields and decode the clip, until the deadline passes or the caller leaves.

    Raises:
        InvalidArgument, InvalidArguments: what is wrong with the clip.
    """
    raw = check_audio(audio, bounds)
    # A thread cannot be cancelled; it asks before every block whether anybody still waits.
    left = threading.Event()

    def check() -> None:
        if left.is_set():
            raise Cancelled
        deadline.check("decoding the clip")

    def work() -> Clip:
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

    try:
        return await run_in_executor(work)
    finally:
        left.set()
