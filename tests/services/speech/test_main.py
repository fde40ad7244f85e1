"""`python -m services.speech` as a process: from its environment to an answer, and to a readable refusal."""

import shutil
import signal
from pathlib import Path

import grpc
import pytest
from sensorium.speech.v1 import speech_service_pb2 as pb
from sensorium.speech.v1 import speech_service_pb2_grpc as pb_grpc

from tests.support.service_process import STATES, loaded, started
from tests.support.waiting import within

LIMIT_S = 30.0


async def test_it_serves_what_it_can_and_says_what_it_cannot(
    models_dir: Path, beckett: bytes, tmp_path: Path
):
    """The detector was never pulled: what cannot do without it says so."""
    folder = tmp_path / "models"
    shutil.copytree(models_dir / "speech" / "moonshine-tiny-en", folder / "moonshine-tiny-en")
    socket = f"unix:{tmp_path}/speech.sock"
    environ = {
        "SENSORIUM_SPEECH_RPC__ADDRESS": socket,
        "SENSORIUM_SPEECH_INFERENCE__MODELS_DIR": str(folder),
        "SENSORIUM_SPEECH_BOUNDS__MAX_AUDIO_S": "30",
    }
    async with started("services.speech", environ) as process, grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        assert {limit.max_audio.seconds for limit in snapshot.limits} == {30}
        states = {model.name: model.state for model in snapshot.models}
        assert states["moonshine-tiny-en"] == STATES.STATE_READY
        assert states["silero-vad"] == STATES.STATE_UNAVAILABLE
        stub = pb_grpc.SpeechServiceStub(channel)
        clip = pb.Audio(content=beckett)
        for call in (
            stub.Transcribe(pb.TranscribeRequest(audio=clip)),
            stub.DetectSpeech(pb.DetectSpeechRequest(audio=clip)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await within(call, LIMIT_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "sensorium models pull silero-vad" in caught.value.details()
        process.send_signal(signal.SIGTERM)
        await within(process.communicate(), LIMIT_S)
        assert process.returncode == 0


async def test_all_of_it(models_dir: Path, beckett: bytes, tmp_path: Path):
    socket = f"unix:{tmp_path}/speech.sock"
    environ = {
        "SENSORIUM_SPEECH_RPC__ADDRESS": socket,
        "SENSORIUM_SPEECH_INFERENCE__MODELS_DIR": str(models_dir / "speech"),
    }
    async with started("services.speech", environ), grpc.aio.insecure_channel(socket) as channel:
        await within(loaded(channel), LIMIT_S)
        stub = pb_grpc.SpeechServiceStub(channel)
        reply = await within(stub.Transcribe(pb.TranscribeRequest(audio=pb.Audio(content=beckett))), LIMIT_S)
        assert reply.text.startswith("Ever tried")


async def test_bad_settings_are_one_readable_refusal():
    async with started("services.speech", {"SENSORIUM_SPEECH_BOUNDS__MAX_AUDIO_S": "0"}) as process:
        _, errors = await within(process.communicate(), LIMIT_S)
        assert process.returncode == 1
        assert "SENSORIUM_SPEECH_BOUNDS__MAX_AUDIO_S" in errors.decode()
        assert "Traceback" not in errors.decode()
