"""The speech recipes: each artifact answers as the published files do, row by row and alone."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import soundfile
from numpy.typing import NDArray

from cli.pull.samples import Sample
from services.speech.models import moonshine, resemblyzer, silero_vad
from shared.inference.artifact import Draft

Members = Mapping[str, bytes]
Audio = NDArray[np.float32]

RECIPES = {
    "moonshine-tiny-en": moonshine.build,
    "silero-vad": silero_vad.build,
    "resemblyzer": resemblyzer.build,
}


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Built:
    members: Members
    draft: Draft
    sessions: Mapping[str, onnxruntime.InferenceSession]

    def run(self, graph: str, **inputs: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        names = [tensor.name for tensor in self.draft.graphs[graph].outputs]
        return dict(zip(names, self.sessions[graph].run(names, inputs), strict=True))


@pytest.fixture(scope="module")
def build(members: Callable[[str, str], Members]) -> Callable[[str], Built]:
    made: dict[str, Built] = {}

    def get(model: str) -> Built:
        if model not in made:
            found = members("speech", model)
            draft = RECIPES[model](found)
            made[model] = Built(
                found, draft, {name: open_session(g.content) for name, g in draft.graphs.items()}
            )
        return made[model]

    return get


@pytest.fixture(scope="module")
def vad(build: Callable[[str], Built]) -> Built:
    return build("silero-vad")


@pytest.fixture(scope="module")
def voice(build: Callable[[str], Built]) -> Built:
    return build("resemblyzer")


@pytest.fixture(scope="module")
def speech(build: Callable[[str], Built]) -> Built:
    return build("moonshine-tiny-en")


@pytest.fixture(scope="module")
def beckett(fetch: Callable[[str], Sample]) -> Sample:
    return fetch("beckett")


@pytest.fixture(scope="module")
def clip(beckett: Sample) -> Audio:
    samples, rate = soundfile.read(io.BytesIO(beckett.path.read_bytes()), dtype="float32")
    assert rate == 16_000
    return np.asarray(samples)


@pytest.mark.parametrize("model", RECIPES)
def test_signatures_are_the_graphs(build: Callable[[str], Built], model: str) -> None:
    built = build(model)
    for name, graph in built.draft.graphs.items():
        session = built.sessions[name]
        assert [tensor.name for tensor in graph.inputs] == [value.name for value in session.get_inputs()]
        assert [tensor.name for tensor in graph.outputs] == [value.name for value in session.get_outputs()]


@pytest.mark.parametrize("model", RECIPES)
def test_golden_reproduces(build: Callable[[str], Built], model: str) -> None:
    built = build(model)
    limits = built.draft.tolerance["CPUExecutionProvider"]
    for name, graph in built.draft.graphs.items():
        inputs = {tensor.name: built.draft.golden[f"{name}/in/{tensor.name}"] for tensor in graph.inputs}
        answers = built.run(name, **inputs)
        expected = {key: value for key, value in built.draft.golden.items() if key.startswith(f"{name}/out/")}
        assert expected
        for key, value in expected.items():
            got = answers[key.removeprefix(f"{name}/out/")]
            np.testing.assert_allclose(got, value, rtol=limits["rtol"], atol=limits["atol"], err_msg=key)


# --- Silero VAD: a whole clip in one run against the published layers, one chunk a call


def detect_by_chunks(built: Built, audio: Audio) -> Audio:
    session = open_session(built.members[silero_vad.MEMBER])
    padded = np.pad(audio, (64, -len(audio) % 512))
    hidden = cell = np.zeros((1, 1, 128), np.float32)
    answers = []
    for start in range(0, len(audio), 512):
        feeds = {"input": padded[None, start : start + 576], "h": hidden, "c": cell}
        probability, hidden, cell = session.run(["speech_probs", "hn", "cn"], feeds)
        answers.append(probability[0])
    return np.array(answers, np.float32)


# 64 chunks are one turn of the graph's loop.
@pytest.mark.parametrize("samples", [1, 63, 511, 512, 513, 5_000, 64 * 512, 64 * 512 + 1, 159_414])
def test_vad_equals_the_published_graph_chunk_by_chunk(vad: Built, clip: Audio, samples: int) -> None:
    audio = clip[-samples:]
    answer = vad.run("model", audio=audio[None])["probability"]
    assert answer.shape == (1, -(-samples // 512))
    np.testing.assert_allclose(answer[0], detect_by_chunks(vad, audio), atol=1e-5)


def test_vad_rows_do_not_depend_on_each_other_or_on_padding(vad: Built, clip: Audio) -> None:
    short = clip[20_000:50_001]
    rows = np.zeros((3, len(clip)), np.float32)
    rows[0], rows[1, : len(short)] = clip, short
    rows[2] = np.random.default_rng(3).normal(0, 0.5, len(clip))
    together = vad.run("model", audio=rows)["probability"]
    np.testing.assert_allclose(together[0], vad.run("model", audio=clip[None])["probability"][0], atol=1e-5)
    alone = vad.run("model", audio=short[None])["probability"][0]
    np.testing.assert_allclose(together[1, : len(alone)], alone, atol=1e-5)


def test_vad_tells_speech_from_silence_and_noise(vad: Built, clip: Audio) -> None:
    noise = np.random.default_rng(4).normal(0, 0.1, 48_000).astype(np.float32)
    assert vad.run("model", audio=clip[None])["probability"].max() > 0.95
    assert vad.run("model", audio=np.zeros((1, 48_000), np.float32))["probability"].max() < 0.05
    assert vad.run("model", audio=noise[None])["probability"].max() < 0.2


def test_vad_refuses_another_graph(voice: Built) -> None:
    with pytest.raises(ValueError, match="expected a node that makes /Relu_3_output_0"):
        silero_vad.build({silero_vad.MEMBER: voice.draft.graphs["model"].content})


# --- Resemblyzer: the matrices that replace librosa, and rows that are alone


def test_fourier_basis_is_numpys_transform_of_hann_windowed_frames() -> None:
    frame = np.random.default_rng(5).normal(0, 0.1, 400).astype(np.float32)
    cosines, sines = np.split(resemblyzer.fourier_basis()[:, 0, :] @ frame, 2)
    window = np.hanning(401)[:400]
    np.testing.assert_allclose(cosines**2 + sines**2, np.abs(np.fft.rfft(frame * window)) ** 2, atol=1e-4)


def test_mel_filters_are_triangles_of_equal_area_from_0_to_8_khz() -> None:
    filters = resemblyzer.mel_filters()
    assert filters.shape == (40, 201)
    assert (filters >= 0).all()
    assert (np.diff(filters.argmax(axis=1)) > 0).all()
    # Wide filters are sampled finely enough for their area to show: 40 Hz a bin.
    np.testing.assert_allclose(filters[20:].sum(axis=1) * 40.0, 1.0, atol=0.02)


def test_voices_do_not_depend_on_batch_mates(voice: Built) -> None:
    rows = voice.draft.golden["model/in/audio"]
    loud = np.random.default_rng(6).normal(0, 0.5, rows.shape).astype(np.float32)
    together = voice.run("model", audio=np.concatenate([rows, loud]))["embedding"]
    np.testing.assert_allclose(together[: len(rows)], voice.run("model", audio=rows)["embedding"], atol=1e-5)


def test_one_speaker_is_nearer_than_two(voice: Built, clip: Audio) -> None:
    size = resemblyzer.PARTIAL_SAMPLES
    man = np.stack([clip[8_000 : 8_000 + size], clip[30_000 : 30_000 + size]])
    woman = voice.draft.golden["model/in/audio"][1:]
    first, second, other = voice.run("model", audio=np.concatenate([man, woman]))["embedding"]
    assert first @ second > 0.7 > first @ other


def test_silence_has_a_finite_voice(voice: Built) -> None:
    silence = np.zeros((1, resemblyzer.PARTIAL_SAMPLES), np.float32)
    assert np.isfinite(voice.run("model", audio=silence)["embedding"]).all()


@pytest.mark.parametrize("keep", [0, 1_000, 1_000_000])
def test_a_cut_off_state_file_is_refused(voice: Built, keep: int) -> None:
    with pytest.raises(ValueError, match="state file"):
        resemblyzer.build({resemblyzer.MEMBER: voice.members[resemblyzer.MEMBER][:keep]})


# --- Moonshine: the decoder's interface, end to end


def read_vocabulary(content: bytes) -> list[bytes]:
    words, position = [], 0
    while position < len(content):
        length, position = content[position], position + 1
        if length >= 128:
            length, position = length - 128 + 128 * content[position], position + 1
        words.append(content[position : position + length])
        position += length
    return words


def transcribe(built: Built, audio: Audio) -> str:
    mask = np.ones((1, len(audio)), np.int64)
    hidden = built.run("encode", input_values=audio[None], attention_mask=mask)["last_hidden_state"]
    past = {name: np.zeros((1, 8, 0, 36), np.float32) for name in moonshine.cache_names("past_key_values")}
    tokens = [1]
    while tokens[-1] != 2 and len(tokens) < 80:
        feeds = {
            "encoder_attention_mask": mask,
            "input_ids": np.array([tokens[-1:]], np.int64),
            "encoder_hidden_states": hidden,
            "use_cache_branch": np.array([len(tokens) > 1]),
        }
        answers = built.run("decode", **feeds, **past)
        for name in past:
            # Keys and values of the audio come out of the first step only.
            if len(tokens) == 1 or ".decoder." in name:
                past[name] = answers[name.replace("past_key_values", "present")]
        tokens.append(int(answers["logits"][0, -1].argmax()))
    words = read_vocabulary(built.draft.assets["tokenizer"][1])
    return b"".join(words[token] for token in tokens if token > 2).decode().replace("▁", " ").strip()


def word_error_rate(said: str, heard: str) -> float:
    expected, got = (re.sub(r"[^a-z ]", "", text.lower()).split() for text in (said, heard))
    row = list(range(len(got) + 1))
    for index, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(got, 1):
            above = row[column]
            row[column] = min(above + 1, row[column - 1] + 1, diagonal + (word != other))
            diagonal = above
    return row[-1] / len(expected)


def test_the_beckett_line_is_heard(speech: Built, beckett: Sample, clip: Audio) -> None:
    assert word_error_rate(str(beckett.fields["transcript"]), transcribe(speech, clip)) <= 0.10


def test_nothing_of_moonshine_is_batched(speech: Built) -> None:
    assert {graph.max_batch_size for graph in speech.draft.graphs.values()} == {0}


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\x01a"])
def test_a_damaged_vocabulary_is_refused(speech: Built, change: Callable[[bytes], bytes]) -> None:
    broken = change(speech.members[moonshine.TOKENIZER_MEMBER])
    with pytest.raises(ValueError, match="expected 32768 entries"):
        moonshine.build({**speech.members, moonshine.TOKENIZER_MEMBER: broken})


def test_a_file_that_is_no_ort_model_is_refused(speech: Built) -> None:
    with pytest.raises(ValueError, match="expected ONNX Runtime's format"):
        moonshine.build({**speech.members, moonshine.ENCODER_MEMBER: b"\x08\x0a\x12\x07pytorch"})
