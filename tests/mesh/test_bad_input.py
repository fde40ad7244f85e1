"""Whatever a caller sends: the exact code, a message with field, expectation and find, and a mesh that goes on."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from tests.mesh.running import RunningMesh, replica_pids

Files = Callable[[str], Path]
TIMEOUT_S = 30
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


@dataclass(frozen=True)
class Refusal:
    """How a call or one of its items was refused."""

    code: grpc.StatusCode
    message: str
    fields: tuple[str, ...]


def read_status(status: status_pb2.Status) -> Refusal:
    fields: list[str] = []
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return Refusal(code, status.message, tuple(fields))


def refuse(call: Callable[[], object]) -> Refusal:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error = refused.value
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return read_status(status_pb2.Status.FromString(value))
    return Refusal(error.code(), error.details(), ())


@pytest.fixture(autouse=True)
def nobody_dies(mesh: RunningMesh) -> object:
    before = replica_pids(mesh)
    yield
    assert replica_pids(mesh) == before


def make_png_bomb(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + side * 3)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return make_png_bomb(30_000)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "0 bytes"),
        ("text", "image"),
        ("zip", "image"),
        ("truncated", "truncated"),
        ("bomb", "900,000,000 pixels"),
    ],
)
def test_bytes_that_are_no_good_image(
    mesh: RunningMesh, channel: grpc.Channel, sample: Files, bomb: bytes, kind: str, says: str
) -> None:
    content = {
        "empty": b"",
        "text": b"this is a text and not a picture",
        "zip": b"PK\x03\x04" + bytes(200),
        "truncated": sample("portrait").read_bytes()[:20_000],
        "bomb": bomb,
    }[kind]
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    request = vision_service_pb2.ClassifyImageRequest(images=[vision_service_pb2.Image(content=content)])
    reply = stub.ClassifyImage(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
    refusal = read_status(reply.results[0].status)
    assert refusal.code == INVALID_ARGUMENT
    assert refusal.fields == ("images[0].content",)
    assert refusal.message.startswith("images[0].content: expected ")
    assert says in refusal.message


def test_options_out_of_range(mesh: RunningMesh, channel: grpc.Channel, sample: Files) -> None:
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    image = vision_service_pb2.Image(content=sample("cat").read_bytes())
    for request, field in [
        (vision_service_pb2.ClassifyImageRequest(), "images"),
        (vision_service_pb2.ClassifyImageRequest(images=[image] * 33), "images"),
        (vision_service_pb2.ClassifyImageRequest(images=[image], top_k=-1), "top_k"),
        (vision_service_pb2.ClassifyImageRequest(images=[image], min_score=float("nan")), "min_score"),
    ]:
        refusal = refuse(
            lambda request=request: stub.ClassifyImage(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
        )
        assert refusal.code == INVALID_ARGUMENT
        assert refusal.fields == (field,)
        assert "expected" in refusal.message and "got" in refusal.message


def test_a_text_of_ten_megabytes(mesh: RunningMesh, channel: grpc.Channel) -> None:
    stub = nlp_service_pb2_grpc.NlpServiceStub(channel)
    request = nlp_service_pb2.EmbedTextRequest(texts=["fine", "word " * 2_000_000])
    reply = stub.EmbedText(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
    assert reply.results[0].status.code == 0
    refusal = read_status(reply.results[1].status)
    assert refusal.code == INVALID_ARGUMENT
    assert refusal.fields == ("texts[1]",)
    assert "10000000" in refusal.message.replace(",", "").replace("_", "").replace(" ", "")


def wav(samples: np.ndarray, *, claims: int | None = None, rate: int = 16_000) -> bytes:
    """A float WAV whose data chunk claims `claims` bytes."""
    data = samples.astype("<f4").tobytes()
    size = len(data) if claims is None else claims
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        min(size + 36, 2**32 - 1),
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        rate,
        rate * 4,
        4,
        32,
        b"data",
        size,
    )
    return header + data


@pytest.mark.parametrize(
    "kind",
    ["empty", "text", "header only", "not finite", "raw without a rate", "file with a rate", "odd raw"],
)
def test_bytes_that_are_no_good_audio(mesh: RunningMesh, channel: grpc.Channel, kind: str) -> None:
    Audio = speech_service_pb2.Audio
    broken = np.zeros(16_000, np.float32)
    broken[5_000] = np.nan
    audio = {
        "empty": Audio(),
        "text": Audio(content=b"this is a text and not a sound"),
        "header only": Audio(content=wav(np.zeros(0), claims=4_000_000_000)),
        "not finite": Audio(content=wav(broken)),
        "raw without a rate": Audio(content=bytes(32_000), encoding=Audio.ENCODING_PCM_S16LE),
        "file with a rate": Audio(content=wav(np.zeros(16_000)), sample_rate_hz=16_000),
        "odd raw": Audio(content=bytes(32_001), encoding=Audio.ENCODING_PCM_S16LE, sample_rate_hz=16_000),
    }[kind]
    stub = speech_service_pb2_grpc.SpeechServiceStub(channel)
    for call, request in [
        (stub.Transcribe, speech_service_pb2.TranscribeRequest(audio=audio)),
        (stub.DetectSpeech, speech_service_pb2.DetectSpeechRequest(audio=audio)),
    ]:
        refusal = refuse(
            lambda call=call, request=request: call(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
        )
        assert refusal.code == INVALID_ARGUMENT
        assert refusal.fields and refusal.fields[0].startswith("audio")
        assert "expected" in refusal.message and "got" in refusal.message


def test_a_header_that_lies_about_its_length_does_not_decide(
    mesh: RunningMesh, channel: grpc.Channel
) -> None:
    """A second of silence whose header claims 4 GB: its real length is taken."""
    stub = speech_service_pb2_grpc.SpeechServiceStub(channel)
    audio = speech_service_pb2.Audio(content=wav(np.zeros(16_000), claims=4_000_000_000))
    reply = stub.DetectSpeech(
        speech_service_pb2.DetectSpeechRequest(audio=audio), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert reply.audio_duration.ToTimedelta().total_seconds() == pytest.approx(1.0, abs=0.01)


def test_an_unsupported_language_lists_the_known_ones(
    mesh: RunningMesh, channel: grpc.Channel, sample: Files
) -> None:
    stub = speech_service_pb2_grpc.SpeechServiceStub(channel)
    audio = speech_service_pb2.Audio(content=sample("beckett").read_bytes())
    request = speech_service_pb2.TranscribeRequest(audio=audio, language="fr")
    refusal = refuse(lambda: stub.Transcribe(request, metadata=mesh.metadata, timeout=TIMEOUT_S))
    assert refusal.code == INVALID_ARGUMENT
    assert refusal.fields == ("language",)
    assert "en" in refusal.message and "fr" in refusal.message


@pytest.mark.parametrize("name", ["no-such-model", "vision/no-such-model", "no-such-service/minilm"])
def test_an_unknown_model_is_answered_with_those_that_exist(
    mesh: RunningMesh, channel: grpc.Channel, sample: Files, name: str
) -> None:
    image = vision_service_pb2.Image(content=sample("cat").read_bytes())
    typed = vision_service_pb2.ClassifyImageRequest(model=name, images=[image])
    tensor = inference_pb2.ModelInferRequest(model_name=name)
    for call in (
        lambda: vision_service_pb2_grpc.VisionServiceStub(channel).ClassifyImage(
            typed, metadata=mesh.metadata, timeout=TIMEOUT_S
        ),
        lambda: inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            tensor, metadata=mesh.metadata, timeout=TIMEOUT_S
        ),
    ):
        refusal = refuse(call)
        assert refusal.code == grpc.StatusCode.NOT_FOUND
        assert name in refusal.message
        assert "efficientnet-lite0" in refusal.message


def make_tensor(**changes: object) -> inference_pb2.ModelInferRequest:
    values = {
        "name": "image",
        "datatype": "FP32",
        "shape": [1, 3, 224, 224],
        "raw": bytes(3 * 224 * 224 * 4),
    } | changes
    request = inference_pb2.ModelInferRequest(model_name="efficientnet-lite0")
    request.inputs.add(name=values["name"], datatype=values["datatype"], shape=values["shape"])
    request.raw_input_contents.append(values["raw"])
    return request


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"name": "picture"}, "inputs", "image"),
        ({"datatype": "INT64"}, "inputs[0].datatype", "FP32"),
        ({"shape": [1, 3, 225, 224]}, "inputs[0].shape", "224"),
        ({"shape": [1, 3, -1, 224]}, "inputs[0].shape", "-1"),
        ({"shape": [2**40, 3, 224, 224]}, "raw_input_contents[0]", "602112"),
        ({"raw": bytes(100)}, "raw_input_contents[0]", "602112"),
    ],
)
def test_a_wrong_tensor(
    mesh: RunningMesh, channel: grpc.Channel, changes: dict[str, object], field: str, says: str
) -> None:
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    refusal = refuse(
        lambda: stub.ModelInfer(make_tensor(**changes), metadata=mesh.metadata, timeout=TIMEOUT_S)
    )
    assert refusal.code == INVALID_ARGUMENT
    assert any(found.startswith(field) for found in refusal.fields), refusal
    assert says in refusal.message.replace(",", "").replace("_", "")


def test_a_message_over_the_limit(mesh: RunningMesh, channel: grpc.Channel) -> None:
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = make_tensor(raw=bytes(40 << 20))
    refusal = refuse(lambda: stub.ModelInfer(request, metadata=mesh.metadata, timeout=TIMEOUT_S))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "32 MiB" in refusal.message or str(32 << 20) in refusal.message


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"images": "x"}', 400),
        (b'{"no_such_field": 1}', 400),
        (b'{"images": [{"content": "!!"}]}', 400),
        (b"{}", 400),
    ],
)
def test_bad_json(mesh: RunningMesh, body: bytes, status: int) -> None:
    headers = {"authorization": f"Bearer {mesh.token}", "content-type": "application/json"}
    reply = httpx.post(
        f"http://{mesh.address}/v1/images:classify", content=body, headers=headers, timeout=TIMEOUT_S
    )
    assert reply.status_code == status
    assert reply.json()["code"] == INVALID_ARGUMENT.value[0]
    assert reply.json()["message"]


def test_a_path_that_is_none(mesh: RunningMesh) -> None:
    headers = {"authorization": f"Bearer {mesh.token}"}
    reply = httpx.get(f"http://{mesh.address}/v1/no-such-path", headers=headers, timeout=TIMEOUT_S)
    assert reply.status_code == 404
    assert reply.json()["code"] in {
        grpc.StatusCode.NOT_FOUND.value[0],
        grpc.StatusCode.UNIMPLEMENTED.value[0],
    }


def test_the_picture_in_a_format_that_is_not_offered(mesh: RunningMesh, channel: grpc.Channel) -> None:
    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PPM")
    stub = vision_service_pb2_grpc.VisionServiceStub(channel)
    request = vision_service_pb2.ClassifyImageRequest(
        images=[vision_service_pb2.Image(content=content.getvalue())]
    )
    refusal = read_status(
        stub.ClassifyImage(request, metadata=mesh.metadata, timeout=TIMEOUT_S).results[0].status
    )
    assert refusal.code == INVALID_ARGUMENT
    assert "JPEG" in refusal.message
