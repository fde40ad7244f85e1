"""RecognizeCommand over small recognisers of tones, a real port and both fronts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import soxr
from sensorium.speech.v1 import speech_service_pb2 as pb
from sensorium.speech.v1 import speech_service_pb2_grpc as pb_grpc

from services.speech.limits import Bounds, describe
from services.speech.servicer import SpeechServicer
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.replica import Replica
from tests.services.speech.sound import encode, tone
from tests.services.speech.tones import TONES, write_tones
from tests.support.serving import FRONTS, get_details, get_status, serving
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 16_000


@dataclass(frozen=True)
class Tones:
    stub: Any
    repository: Repository


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FRONTS)
async def tones(request: pytest.FixtureRequest, tmp_path_factory) -> AsyncIterator[Tones]:
    models = tmp_path_factory.mktemp("models")
    write_tones(models, "tones")
    write_tones(models, "stretches", hop_samples=2_000)
    write_tones(models, "wordless", labels=["low", "middle", "high"])
    write_tones(models, "broken", labels=["alone"])
    repository = Repository(models, "speech", InferenceSettings(signature=UNSIGNED), {})
    await within(repository.load_all(), 60.0)
    servicer = SpeechServicer(repository, Bounds(max_audio_s=20))
    async with serving(
        lambda server: pb_grpc.add_SpeechServiceServicer_to_server(servicer, server),
        front=request.param,
        replica=Replica("speech"),
    ) as running:
        yield Tones(pb_grpc.SpeechServiceStub(running.channel), repository)
    await within(repository.close())


def audio(samples, rate: int = RATE) -> pb.Audio:
    return pb.Audio(content=encode(np.asarray(samples, np.float32), rate))


async def ask(
    tones: Tones, clip: pb.Audio, model: str = "tones", **fields: Any
) -> pb.RecognizeCommandResponse:
    request = pb.RecognizeCommandRequest(model=model, audio=clip, **fields)
    return await within(tones.stub.RecognizeCommand(request, timeout=30))


async def refuse(tones: Tones, clip: pb.Audio, model: str = "tones", **fields: Any) -> tuple[list[str], str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(tones, clip, model, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value.details()
    violations = get_details(get_status(caught.value))["BadRequest"].field_violations
    return [violation.field for violation in violations], caught.value.details()


@pytest.mark.parametrize("label", TONES)
async def test_names_the_tone_and_its_language(tones, label):
    language, _, name = label.rpartition(":")
    silence = np.zeros(RATE, np.float32)
    clip = np.concatenate([silence, tone(0.5, RATE, hz=TONES[label]), silence])
    reply = await ask(tones, audio(clip))
    best = reply.commands[0]
    assert (best.label, best.language) == (name, language)
    assert best.score > 0.9
    assert [command.score for command in reply.commands] == sorted(
        (command.score for command in reply.commands), reverse=True
    )
    assert sum(command.score for command in reply.commands) == pytest.approx(1.0, abs=1e-5)
    assert reply.audio_duration.ToTimedelta().total_seconds() == pytest.approx(2.5)
    assert (reply.model.name, reply.model.version) == ("speech/tones", "1")
    assert reply.timing.compute.ToNanoseconds() > 0


@pytest.mark.parametrize(("wanted", "got"), [(0, 3), (1, 1), (2, 2), (100, 3)])
async def test_as_many_results_as_asked_for(tones, wanted, got):
    reply = await ask(tones, audio(tone(0.4, RATE, hz=400)), max_results=wanted)
    assert len(reply.commands) == got


@pytest.mark.parametrize("wanted", [-1, 101])
async def test_no_such_number_of_results(tones, wanted):
    fields, text = await refuse(tones, audio(tone(0.4, RATE)), max_results=wanted)
    assert fields == ["max_results"]
    assert "1 to 100" in text


async def test_in_a_language_only_what_is_said_in_it(tones):
    both = audio(tone(0.5, RATE, hz=400) + 0.8 * tone(0.5, RATE, hz=900))
    assert (await ask(tones, both)).commands[0].language == "en"
    for tag in ("it", "IT", "it-CH"):
        reply = await ask(tones, both, language=tag)
        assert [(command.language, command.label) for command in reply.commands] == [("it", "1")]
        assert reply.commands[0].score == pytest.approx(1.0)


async def test_languages_that_the_model_does_not_know(tones):
    fields, text = await refuse(tones, audio(tone(0.4, RATE)), language="de")
    assert fields == ["language"]
    assert "en, it" in text
    fields, _ = await refuse(tones, audio(tone(0.4, RATE)), "wordless", language="en")
    assert fields == ["language"]


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
async def test_loudness_rate_and_place_do_not_matter(tones, rate):
    sound = np.zeros(2 * rate, np.float32)
    sound[rate // 3 : rate // 3 + rate // 2] = tone(0.5, rate, hz=900, peak=0.01)[: rate // 2]
    reply = await ask(tones, audio(sound, rate))
    assert (reply.commands[0].label, reply.commands[0].language) == ("1", "it")
    assert reply.commands[0].score > 0.9


async def test_of_a_long_clip_the_windows_are_averaged(tones):
    parts = [tone(2.0, RATE, hz=400), tone(2.0, RATE, hz=2_000)]
    reply = await ask(tones, audio(np.concatenate(parts)), "stretches")
    scores = {(command.language, command.label): command.score for command in reply.commands}
    assert scores["en", "1"] == pytest.approx(0.5, abs=0.1)
    assert scores["", "music"] == pytest.approx(0.5, abs=0.1)
    # A command is one: of the same clip the loudest part answers alone.
    assert (await ask(tones, audio(np.concatenate(parts)))).commands[0].score > 0.7


async def test_a_clip_without_sound(tones):
    for model in ("tones", "stretches"):
        fields, text = await refuse(tones, audio(np.zeros(RATE, np.float32)), model)
        assert fields == ["audio.content"]
        assert "something is heard" in text


async def test_a_clip_longer_than_the_model_takes(tones):
    fields, text = await refuse(tones, audio(tone(5.5, RATE)))
    assert fields == ["audio.content"]
    assert "at most 5 s for speech/tones" in text
    fields, text = await refuse(tones, audio(tone(21.0, RATE)))
    assert fields == ["audio.content"]
    assert "20" in text


async def test_bytes_that_are_no_audio(tones):
    fields, _ = await refuse(tones, pb.Audio(content=b"no audio at all" * 10))
    assert fields == ["audio.content"]


async def test_an_artifact_that_says_too_little_is_unavailable(tones):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(tones, audio(tone(0.4, RATE)), "broken")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "RecognizeCommand needs" in caught.value.details()


async def test_callers_at_the_same_time_get_their_own_answers(tones):
    clips = [audio(tone(0.4, RATE, hz=hz)) for hz in TONES.values()] * 4
    alone = [(await ask(tones, clip)).commands for clip in clips]
    together = await within(asyncio.gather(*(ask(tones, clip) for clip in clips)), 30.0)
    assert [[command.label for command in reply.commands] for reply in together] == [
        [command.label for command in commands] for commands in alone
    ]
    for reply, commands in zip(together, alone, strict=True):
        assert np.allclose([one.score for one in reply.commands], [one.score for one in commands], atol=1e-5)


async def test_files_of_other_formats(tones):
    samples = soxr.resample(tone(0.5, RATE, hz=2_000), RATE, 44_100)
    for container, subtype in (("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        reply = await ask(tones, pb.Audio(content=encode(samples, 44_100, container, subtype)))
        assert reply.commands[0].label == "music"


async def test_limits_are_told():
    told = {limit.method.rsplit("/", 1)[1]: limit for limit in describe(Bounds(), 32 * 2**20)}
    assert told["RecognizeCommand"].max_items == 1
    assert told["RecognizeCommand"].max_audio.ToTimedelta().total_seconds() == 600
