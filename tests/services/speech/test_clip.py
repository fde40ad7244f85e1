"""A request's clip on its way to samples."""

import asyncio
import time

import numpy as np
import pytest
from sensorium.speech.v1 import speech_service_pb2 as pb

from services.speech.clip import open_clip
from services.speech.limits import Bounds
from shared.errors import DeadlineExceeded, InvalidArgument
from shared.rpc.deadline import Deadline, set_deadline
from tests.services.speech.sound import encode, tone
from tests.support.waiting import within

BOUNDS = Bounds(max_audio_s=3600)


async def test_files_and_raw_samples():
    raw = pb.Audio(content=np.zeros(800, "<i2").tobytes(), encoding=1, sample_rate_hz=8_000, channel_count=2)
    assert (await within(open_clip(raw, BOUNDS))).duration_s == 0.05
    file = pb.Audio(content=encode(tone(1.0, 8_000), 8_000))
    assert (await within(open_clip(file, BOUNDS))).duration_s == 1.0


async def test_fields_are_checked_before_decoding():
    with pytest.raises(InvalidArgument, match=r"audio\.content: expected 1 to"):
        await within(open_clip(pb.Audio(), BOUNDS))


async def test_an_expired_deadline_stops_the_decoding():
    clip = pb.Audio(content=encode(tone(1.0, 8_000), 8_000))
    set_deadline(Deadline.after(-1))
    with pytest.raises(DeadlineExceeded):
        await within(open_clip(clip, BOUNDS))


async def test_a_caller_who_leaves_frees_the_thread():
    # An hour takes seconds to decode; with every thread on one, the next clip would have to wait for them.
    hour = pb.Audio(content=encode(np.zeros(3600 * 8_000, np.float32), 8_000, "FLAC"))
    calls = [asyncio.create_task(open_clip(hour, BOUNDS)) for _ in range(64)]
    # One turn of the loop: as many as there are threads are being decoded now.
    await asyncio.wait(calls, timeout=0)
    for call in calls:
        call.cancel()
    await within(asyncio.gather(*calls, return_exceptions=True))
    started_s = time.process_time()
    short = pb.Audio(content=encode(tone(1.0, 8_000), 8_000))
    assert (await within(open_clip(short, BOUNDS))).duration_s == 1.0
    # Of the processor, over all threads: an hour takes more than a second of it.
    assert time.process_time() - started_s < 0.5
