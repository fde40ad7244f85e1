"""The rpcs over real models, a real port and both fronts."""

import asyncio
import io
import re
from collections.abc import Callable
from itertools import pairwise

import grpc
import numpy as np
import pytest
import soundfile
import soxr
from sensorium.speech.v1 import speech_service_pb2 as pb

from cli.pull.samples import Sample
from tests.services.speech.conftest import Speech
from tests.services.speech.sound import encode, tone
from tests.support.serving import get_details, get_status
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 60.0
RATE = 16_000


def samples_of(wav: bytes):
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    assert rate == RATE
    return samples


def audio(samples, rate: int = RATE) -> pb.Audio:
    return pb.Audio(
        content=(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(),
        encoding=pb.Audio.ENCODING_PCM_S16LE,
        sample_rate_hz=rate,
    )


def count_word_errors(reference: str, got: str) -> tuple[int, int]:
    """Insertions, deletions and replacements, and the reference's words; case and punctuation do not count."""
    wanted, heard = (re.sub(r"[^\w' ]", " ", text.lower()).split() for text in (reference, got))
    row = list(range(len(heard) + 1))
    for number, word in enumerate(wanted, start=1):
        before, row = row, [number]
        for at, other in enumerate(heard, start=1):
            row.append(min(before[at] + 1, row[at - 1] + 1, before[at - 1] + (word != other)))
    return row[-1], len(wanted)


async def transcribe(speech: Speech, clip: pb.Audio, **fields: str) -> pb.TranscribeResponse:
    return await within(
        speech.stub.Transcribe(pb.TranscribeRequest(audio=clip, **fields), timeout=LIMIT_S), LIMIT_S
    )


async def fail(call: grpc.aio.UnaryUnaryCall, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(call, LIMIT_S)
    assert caught.value.code() is code, caught.value.details()
    return caught.value


def violated(error: grpc.aio.AioRpcError) -> list[str]:
    return [item.field for item in get_details(get_status(error))["BadRequest"].field_violations]


async def test_transcribes_a_real_clip(speech: Speech, fetch: Callable[[str], Sample], beckett: bytes):
    reply = await transcribe(speech, pb.Audio(content=beckett))
    errors, words = count_word_errors(fetch("beckett").fields["transcript"], reply.text)
    assert errors / words <= 0.1, reply.text
    assert reply.audio_duration.ToTimedelta().total_seconds() == pytest.approx(9.963375, abs=1e-6)
    assert reply.language == "en"
    assert (reply.model.name, reply.model.version) == ("speech/moonshine-tiny-en", "1")
    assert reply.text == " ".join(item.text for item in reply.segments)
    assert not any(item.stopped_early for item in reply.segments)
    timing = reply.timing
    assert timing.compute.ToNanoseconds() > timing.queue.ToNanoseconds() >= 0
    assert timing.preprocess.ToNanoseconds() > 0


@pytest.mark.parametrize(
    ("container", "subtype", "rate", "channels"),
    [
        ("MP3", "MPEG_LAYER_III", 8_000, 2),
        ("OGG", "OPUS", 48_000, 1),
        ("OGG", "VORBIS", 44_100, 2),
        ("FLAC", "PCM_16", 22_050, 1),
        ("WAV", "ULAW", 8_000, 1),
    ],
)
async def test_other_formats_are_heard_about_as_well(
    speech, fetch, beckett, container, subtype, rate, channels
):
    clip = encode(soxr.resample(samples_of(beckett), RATE, rate), rate, container, subtype, channels)
    reply = await transcribe(speech, pb.Audio(content=clip))
    errors, words = count_word_errors(fetch("beckett").fields["transcript"], reply.text)
    assert errors / words <= 0.1, reply.text
    assert reply.audio_duration.ToTimedelta().total_seconds() == pytest.approx(9.96, abs=0.1)


async def test_long_clips_are_cut_at_pauses(speech, fetch, beckett):
    samples = samples_of(beckett)
    pause = np.zeros(3 * RATE, np.float32)
    reply = await transcribe(speech, audio(np.concatenate([pause, samples, pause, samples, pause, samples])))
    errors, words = count_word_errors(" ".join([fetch("beckett").fields["transcript"]] * 3), reply.text)
    assert errors / words <= 0.1, reply.text
    assert len(reply.segments) == 3
    ends = [0.0]
    for item in reply.segments:
        start_s, end_s = (at.ToTimedelta().total_seconds() for at in (item.segment.start, item.segment.end))
        assert ends[-1] < start_s < end_s
        assert end_s - start_s <= 20.0
        ends.append(end_s)
    assert ends[-1] <= reply.audio_duration.ToTimedelta().total_seconds()
    assert reply.segments[0].segment.start.seconds >= 2


@pytest.mark.parametrize("kind", ["silence", "hiss", "tone", "one sample"])
async def test_where_nobody_speaks_there_is_no_text(speech, kind):
    made = {
        "silence": np.zeros(5 * RATE),
        "hiss": np.random.default_rng(0).normal(0, 0.05, 5 * RATE),
        "tone": tone(5.0, RATE),
        "one sample": np.zeros(1),
    }
    reply = await transcribe(speech, audio(made[kind]))
    assert (reply.text, list(reply.segments)) == ("", [])
    assert reply.audio_duration.ToTimedelta().total_seconds() == pytest.approx(
        len(made[kind]) / RATE, abs=1e-4
    )


@pytest.mark.parametrize("language", ["en", "en-GB", "EN"])
async def test_known_language(speech, language):
    assert (await transcribe(speech, audio(np.zeros(RATE)), language=language)).language == "en"


async def test_unknown_language_lists_the_known(speech):
    request = pb.TranscribeRequest(audio=audio(np.zeros(RATE)), language="fr-FR")
    error = await fail(speech.stub.Transcribe(request, timeout=LIMIT_S), grpc.StatusCode.INVALID_ARGUMENT)
    assert violated(error) == ["language"]
    assert "languages: en" in error.details()


async def test_detects_speech(speech, beckett):
    request = pb.DetectSpeechRequest(audio=pb.Audio(content=beckett))
    reply = await within(speech.stub.DetectSpeech(request, timeout=LIMIT_S), LIMIT_S)
    spans = [
        (item.start.ToTimedelta().total_seconds(), item.end.ToTimedelta().total_seconds())
        for item in reply.segments
    ]
    # Six phrases.
    assert len(spans) == 6
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert sum(end - start for start, end in spans) == pytest.approx(
        reply.speech_duration.ToTimedelta().total_seconds()
    )
    assert reply.max_probability > 0.99
    assert reply.model.name == "speech/silero-vad"


async def test_higher_threshold_hears_less(speech, beckett):
    heard = {}
    for threshold in (0.1, 0.5, 0.98):
        request = pb.DetectSpeechRequest(audio=pb.Audio(content=beckett), threshold=threshold)
        reply = await within(speech.stub.DetectSpeech(request, timeout=LIMIT_S), LIMIT_S)
        heard[threshold] = reply.speech_duration.ToTimedelta().total_seconds()
    assert heard[0.1] > heard[0.5] > heard[0.98] > 0


async def test_silence_holds_no_speech(speech):
    request = pb.DetectSpeechRequest(audio=audio(np.zeros(RATE)))
    reply = await within(speech.stub.DetectSpeech(request, timeout=LIMIT_S), LIMIT_S)
    assert list(reply.segments) == []
    assert reply.speech_duration.ToNanoseconds() == 0
    assert reply.max_probability < 0.1


async def embed(speech: Speech, clip: pb.Audio) -> np.ndarray:
    reply = await within(
        speech.stub.EmbedSpeaker(pb.EmbedSpeakerRequest(audio=clip), timeout=LIMIT_S), LIMIT_S
    )
    assert reply.model.name == "speech/resemblyzer"
    assert reply.speech_duration.ToNanoseconds() > 0
    vector = np.array(reply.embedding.values)
    assert vector.shape == (256,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    return vector


async def test_a_voice_is_nearer_to_itself_than_to_another(speech, beckett):
    samples = samples_of(beckett)
    first, second = (
        await embed(speech, audio(samples[: 5 * RATE])),
        await embed(speech, audio(samples[5 * RATE :])),
    )
    # A third higher in pitch and speed is another person to the ear.
    other = await embed(speech, audio(soxr.resample(samples, 4, 3)))
    assert first @ second > max(first @ other, second @ other) + 0.05


async def test_pauses_and_loudness_do_not_change_a_voice(speech, beckett):
    samples = samples_of(beckett)
    whole = await embed(speech, audio(samples))
    silence = np.zeros(4 * RATE, np.float32)
    assert whole @ await embed(speech, audio(np.concatenate([silence, samples, silence]))) > 0.99
    assert whole @ await embed(speech, audio(samples * 0.3)) > 0.95


async def test_no_voice_without_speech(speech):
    request = pb.EmbedSpeakerRequest(audio=audio(tone(3.0, RATE)))
    error = await fail(speech.stub.EmbedSpeaker(request, timeout=LIMIT_S), grpc.StatusCode.INVALID_ARGUMENT)
    assert violated(error) == ["audio.content"]
    assert "without speech" in error.details()


@pytest.mark.parametrize("rpc", ["Transcribe", "DetectSpeech", "RecognizeCommand", "EmbedSpeaker"])
@pytest.mark.parametrize(
    ("clip", "field"),
    [
        (pb.Audio(), "audio.content"),
        (pb.Audio(content=b"this is no audio" * 100), "audio.content"),
        (pb.Audio(content=encode(tone(1.0, RATE), RATE, "FLAC")[:2_000]), "audio.content"),
        (
            pb.Audio(content=np.full(99, np.nan, "<f4").tobytes(), encoding=2, sample_rate_hz=RATE),
            "audio.content",
        ),
        (pb.Audio(content=bytes(RATE * 2), encoding=1), "audio.sample_rate_hz"),
        (pb.Audio(content=encode(np.zeros(601 * 8_000, np.float32), 8_000, "FLAC")), "audio.content"),
    ],
    ids=["empty", "no audio", "cut off", "nan", "no rate", "too long"],
)
async def test_bad_clips_are_the_callers(speech, rpc, clip, field):
    request = getattr(pb, f"{rpc}Request")(audio=clip)
    error = await fail(getattr(speech.stub, rpc)(request, timeout=LIMIT_S), grpc.StatusCode.INVALID_ARGUMENT)
    assert violated(error) == [field]


async def recognize(speech: Speech, clip: pb.Audio, **fields) -> pb.RecognizeCommandResponse:
    request = pb.RecognizeCommandRequest(audio=clip, **fields)
    return await within(speech.stub.RecognizeCommand(request, timeout=LIMIT_S), LIMIT_S)


async def test_kinds_of_sound(speech, beckett):
    said = await recognize(speech, audio(samples_of(beckett)), model="sounds")
    assert (said.commands[0].label, said.commands[0].language) == ("speech", "")
    assert said.model.name == "speech/sounds"
    noise = np.random.default_rng(0).standard_normal(3 * RATE) * 0.05
    heard = await recognize(speech, audio(noise), model="speech/sounds", max_results=1)
    assert [command.label for command in heard.commands] == ["noise"]


async def test_commands_by_default_and_in_a_language(speech, beckett):
    clip = audio(samples_of(beckett)[: 2 * RATE])
    reply = await recognize(speech, clip, max_results=100)
    assert reply.model.name == "speech/commands"
    assert {command.language for command in reply.commands} >= {"en", "es", "fr", "it", "ru"}
    reply = await recognize(speech, clip, language="ru", max_results=100)
    assert {(command.language, len(command.label)) for command in reply.commands} == {("ru", 1)}
    assert sorted(command.label for command in reply.commands) == list("0123456789")
    assert sum(command.score for command in reply.commands) == pytest.approx(1.0, abs=1e-5)


async def test_models_by_name(speech):
    clip = audio(np.zeros(RATE))
    for name in ("silero-vad", "speech/silero-vad"):
        reply = await within(
            speech.stub.DetectSpeech(pb.DetectSpeechRequest(audio=clip, model=name), timeout=LIMIT_S)
        )
        assert reply.model.name == "speech/silero-vad"
    unknown = speech.stub.DetectSpeech(pb.DetectSpeechRequest(audio=clip, model="whisper"), timeout=LIMIT_S)
    assert "moonshine-tiny-en" in (await fail(unknown, grpc.StatusCode.NOT_FOUND)).details()
    other = speech.stub.Transcribe(pb.TranscribeRequest(audio=clip, model="silero-vad"), timeout=LIMIT_S)
    assert violated(await fail(other, grpc.StatusCode.INVALID_ARGUMENT)) == ["model"]


def count_decoding_steps(speech: Speech) -> int:
    graph = speech.repository.graph("moonshine-tiny-en.decode")
    return graph.batcher.statistics.to_message("", "").execution_count


async def test_deadline_ends_the_decoding(speech, beckett):
    long = audio(np.tile(samples_of(beckett), 20))
    before = count_decoding_steps(speech)
    call = speech.stub.Transcribe(pb.TranscribeRequest(audio=long), timeout=0.7)
    await fail(call, grpc.StatusCode.DEADLINE_EXCEEDED)
    stopped = count_decoding_steps(speech)
    # The same call again waits behind whatever still runs: had the first gone on, its steps would be among these.
    reply = await transcribe(speech, audio(samples_of(beckett)))
    after = count_decoding_steps(speech)
    assert stopped - before < 20 * 19
    assert after - stopped < 40, reply.text


async def test_a_caller_who_leaves_ends_the_decoding(speech, beckett):
    long = audio(np.tile(samples_of(beckett), 20))
    before = count_decoding_steps(speech)
    call = speech.stub.Transcribe(pb.TranscribeRequest(audio=long), timeout=LIMIT_S)
    while count_decoding_steps(speech) < before + 5:
        await within(
            speech.stub.DetectSpeech(pb.DetectSpeechRequest(audio=audio(np.zeros(RATE))), timeout=LIMIT_S)
        )
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    left = count_decoding_steps(speech)
    await transcribe(speech, audio(samples_of(beckett)))
    assert count_decoding_steps(speech) - left < 60


async def test_callers_at_the_same_time_get_their_own_answers(speech, beckett):
    samples = samples_of(beckett)
    clips = [audio(samples), audio(np.zeros(RATE)), audio(samples[: 4 * RATE])]
    alone = [(await transcribe(speech, clip)).text for clip in clips]
    together = await within(asyncio.gather(*(transcribe(speech, clip) for clip in clips)), LIMIT_S)
    assert [reply.text for reply in together] == alone


async def test_more_clips_than_places_wait_for_one(speech, beckett):
    clip = audio(samples_of(beckett))
    calls = [speech.stub.DetectSpeech(pb.DetectSpeechRequest(audio=clip), timeout=LIMIT_S) for _ in range(8)]
    results = await within(asyncio.gather(*calls), LIMIT_S)
    assert len({reply.max_probability for reply in results}) == 1
