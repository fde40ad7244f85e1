"""True answers about real inputs, through the gateway, over gRPC and HTTP/JSON."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from cli.pull.samples import Sample
from tests.mesh.running import RunningMesh, run

Files = Callable[[str], Path]
TIMEOUT_S = 60
# Rpcs for which only models that are trained here answer.
OWN_DEFAULTS = {"texts:detectLanguage": "DetectLanguage", "audio:recognizeCommand": "RecognizeCommand"}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Edit distance in words."""
    row = list(range(len(heard) + 1))
    for n, word in enumerate(said, 1):
        before, row[0] = row[0], n
        for m, other in enumerate(heard, 1):
            before, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, before + (word != other))
    return row[-1]


def image(path: Path) -> vision_service_pb2.Image:
    return vision_service_pb2.Image(content=path.read_bytes())


@pytest.fixture
def vision(channel: grpc.Channel) -> vision_service_pb2_grpc.VisionServiceStub:
    return vision_service_pb2_grpc.VisionServiceStub(channel)


@pytest.fixture
def nlp(channel: grpc.Channel) -> nlp_service_pb2_grpc.NlpServiceStub:
    return nlp_service_pb2_grpc.NlpServiceStub(channel)


@pytest.fixture
def speech(channel: grpc.Channel) -> speech_service_pb2_grpc.SpeechServiceStub:
    return speech_service_pb2_grpc.SpeechServiceStub(channel)


def test_the_cat_is_a_cat_and_the_portrait_is_not(
    mesh: RunningMesh, vision: vision_service_pb2_grpc.VisionServiceStub, sample: Files
) -> None:
    request = vision_service_pb2.ClassifyImageRequest(
        images=[image(sample("cat")), image(sample("portrait"))], top_k=2
    )
    reply = vision.ClassifyImage(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
    best = [result.classifications[0].label for result in reply.results]
    assert best[0] in {"Egyptian cat", "tabby", "tabby, tabby cat"}
    assert "cat" not in best[1]
    assert reply.model.name == "vision/efficientnet-lite0"


def test_what_shows_the_cat_is_drawn(
    mesh: RunningMesh, vision: vision_service_pb2_grpc.VisionServiceStub, sample: Files
) -> None:
    request = vision_service_pb2.ExplainImageRequest(images=[image(sample("cat"))], max_runs=32)
    (result,) = vision.ExplainImage(request, metadata=mesh.metadata, timeout=TIMEOUT_S).results
    assert result.label in {"Egyptian cat", "tabby"}
    assert len(result.attributions) == result.rows * result.columns
    assert result.heat_map.startswith(b"\x89PNG")
    assert result.run_count == 32


def test_the_command_line_explains_pictures(mesh: RunningMesh, sample: Files, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    command = [sys.executable, "-m", "cli", "vision", "explain", sample("cat"), "--max-runs", "16"]
    done = run([*command, "--heat-maps", maps], mesh)
    assert done.returncode == 0, done.stderr
    assert "with everything covered" in done.stdout
    written = (maps / "cat.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    done = run([*command, "--json"], mesh)
    assert base64.b64decode(json.loads(done.stdout)["heat_map"]) == written


def test_the_page_is_read(
    mesh: RunningMesh, vision: vision_service_pb2_grpc.VisionServiceStub, sample: Files
) -> None:
    reply = vision.ReadText(
        vision_service_pb2.ReadTextRequest(images=[image(sample("page"))]),
        metadata=mesh.metadata,
        timeout=TIMEOUT_S,
    )
    lines = [line.text for line in reply.results[0].lines]
    # The recogniser drops some spaces: letters are compared.
    assert "".join(words(lines[0])) == "regionbasedsegmentation"
    assert "".join(words(lines[1])).startswith("letusfirstdeterminemarkers")


def test_the_portrait_has_one_face_and_a_person(
    mesh: RunningMesh, vision: vision_service_pb2_grpc.VisionServiceStub, sample: Files
) -> None:
    portrait = image(sample("portrait"))
    faces = vision.DetectFaces(
        vision_service_pb2.DetectFacesRequest(images=[portrait]), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    (face,) = faces.results[0].faces
    assert 150 < (face.box.x_min + face.box.x_max) / 2 < 290
    assert 50 < (face.box.y_min + face.box.y_max) / 2 < 190
    assert len(face.landmarks) == 5
    objects = vision.DetectObjects(
        vision_service_pb2.DetectObjectsRequest(images=[portrait]), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert "person" in {found.label for found in objects.results[0].objects}


def test_a_bad_image_fails_alone(
    mesh: RunningMesh, vision: vision_service_pb2_grpc.VisionServiceStub, sample: Files
) -> None:
    images = [image(sample("cat")), vision_service_pb2.Image(content=b"no image"), image(sample("cat"))]
    reply = vision.EmbedImage(
        vision_service_pb2.EmbedImageRequest(images=images), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert [result.status.code for result in reply.results] == [0, 3, 0]
    assert "images[1].content" in reply.results[1].status.message
    first, _, last = (result.embedding.values for result in reply.results)
    assert math.isclose(sum(a * b for a, b in zip(first, last, strict=True)), 1.0, rel_tol=1e-4)


def test_paraphrases_are_nearer_than_strangers(
    mesh: RunningMesh, nlp: nlp_service_pb2_grpc.NlpServiceStub
) -> None:
    texts = [
        "A man is playing a guitar.",
        "Someone plays an instrument.",
        "The stock market fell sharply today.",
    ]
    reply = nlp.EmbedText(
        nlp_service_pb2.EmbedTextRequest(texts=texts), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    one, two, stranger = (result.embedding.values for result in reply.results)
    near = sum(a * b for a, b in zip(one, two, strict=True))
    far = sum(a * b for a, b in zip(one, stranger, strict=True))
    assert near > far + 0.2


def test_the_callers_labels_are_ranked(mesh: RunningMesh, nlp: nlp_service_pb2_grpc.NlpServiceStub) -> None:
    request = nlp_service_pb2.ClassifyTextRequest(
        texts=["The striker scored twice in the second half.", "Parliament passed the budget last night."],
        candidate_labels=["about sports", "about politics", "about cooking"],
    )
    reply = nlp.ClassifyText(request, metadata=mesh.metadata, timeout=TIMEOUT_S)
    assert [result.labels[0].label for result in reply.results] == ["about sports", "about politics"]
    assert all(
        math.isclose(sum(label.score for label in result.labels), 1.0, rel_tol=1e-3)
        for result in reply.results
    )


def test_a_review_is_judged_and_explained(
    mesh: RunningMesh, nlp: nlp_service_pb2_grpc.NlpServiceStub
) -> None:
    reviews = ["The acting is wonderful.", "A dull, clumsy and lifeless film."]
    judged = nlp.ClassifyText(
        nlp_service_pb2.ClassifyTextRequest(texts=reviews), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert judged.model.name == "nlp/sentiment"
    assert [result.labels[0].label for result in judged.results] == ["positive", "negative"]
    explained = nlp.ExplainText(
        nlp_service_pb2.ExplainTextRequest(texts=reviews), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert explained.model == judged.model
    best = [max(result.attributions, key=lambda one: one.attribution).text for result in explained.results]
    assert best[0] == "wonderful"
    assert best[1] in ("dull", "clumsy", "lifeless")


def test_the_beckett_line_is_heard(
    mesh: RunningMesh, speech: speech_service_pb2_grpc.SpeechServiceStub, fetch: Callable[[str], Sample]
) -> None:
    beckett = fetch("beckett")
    audio = speech_service_pb2.Audio(content=beckett.path.read_bytes())
    reply = speech.Transcribe(
        speech_service_pb2.TranscribeRequest(audio=audio), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    said = words(str(beckett.fields["transcript"]))
    assert word_errors(said, words(reply.text)) <= 0.1 * len(said), reply.text
    found = speech.DetectSpeech(
        speech_service_pb2.DetectSpeechRequest(audio=audio), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert (
        2
        < found.speech_duration.ToTimedelta().total_seconds()
        < found.audio_duration.ToTimedelta().total_seconds()
    )
    voice = speech.EmbedSpeaker(
        speech_service_pb2.EmbedSpeakerRequest(audio=audio), metadata=mesh.metadata, timeout=TIMEOUT_S
    )
    assert math.isclose(sum(value * value for value in voice.embedding.values), 1.0, rel_tol=1e-4)


def test_the_same_over_http_with_curl(mesh: RunningMesh, sample: Files, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(
        json.dumps(
            {"images": [{"content": base64.b64encode(sample("cat").read_bytes()).decode()}], "topK": 1}
        )
    )
    command = [
        "curl",
        "-sS",
        f"http://{mesh.address}/v1/images:classify",
        "-H",
        f"authorization: Bearer {mesh.token}",
    ]
    command += ["-H", "content-type: application/json", "-d", f"@{body}"]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S).stdout)
    assert (
        "cat" in said["results"][0]["classifications"][0]["label"]
        or "tabby" in said["results"][0]["classifications"][0]["label"]
    )
    assert said["timing"]["compute"].endswith("s")


def test_every_typed_rpc_has_a_json_face(mesh: RunningMesh, sample: Files) -> None:
    photo = {"images": [{"content": base64.b64encode(sample("portrait").read_bytes()).decode()}]}
    clip = {"audio": {"content": base64.b64encode(sample("beckett").read_bytes()).decode()}}
    hello = {"texts": ["hello"], "candidateLabels": ["a greeting", "a farewell"]}
    posts = {
        "images:classify": photo,
        "images:detectObjects": photo,
        "images:detectFaces": photo,
        "images:readText": photo,
        "images:embed": photo,
        "images:explain": {**photo, "maxRuns": 16},
        "texts:embed": {"texts": ["hello"]},
        "texts:classify": hello,
        "texts:detectLanguage": {"texts": ["hello, how are you today?"]},
        "texts:explain": {**hello, "maxRuns": 16},
        "audio:transcribe": clip,
        "audio:detectSpeech": clip,
        "audio:recognizeCommand": {"audio": cut(sample("beckett"))},
        "audio:embedSpeaker": clip,
    }
    headers = {"authorization": f"Bearer {mesh.token}"}
    served = {
        rpc
        for entry in httpx.get(f"http://{mesh.address}/v1/models", headers=headers).json()["models"]
        for rpc in entry["model"].get("defaultFor", ())
    }
    for path, body in posts.items():
        reply = httpx.post(f"http://{mesh.address}/v1/{path}", json=body, headers=headers, timeout=TIMEOUT_S)
        # An rpc of which no model is the default has its JSON face as well, and says so.
        known = OWN_DEFAULTS.get(path) in (None, *served)
        assert reply.status_code == (200 if known else 404), f"{path}: {reply.text}"
    for path in ("models", "replicas", "limits"):
        reply = httpx.get(f"http://{mesh.address}/v1/{path}", headers=headers, timeout=TIMEOUT_S)
        assert reply.status_code == 200, f"{path}: {reply.text}"


def cut(path: Path) -> dict[str, object]:
    """The second of a clip of 16 kHz in which somebody begins to speak, as raw samples in JSON."""
    with wave.open(str(path)) as clip:
        samples = np.frombuffer(clip.readframes(clip.getnframes()), "<i2")
    begin = int(np.flatnonzero(np.abs(samples) > 2000)[0])
    content = base64.b64encode(samples[begin : begin + 16_000].tobytes()).decode()
    return {"content": content, "encoding": "ENCODING_PCM_S16LE", "sampleRateHz": 16_000}


def test_the_mesh_lists_its_models_replicas_and_limits(mesh: RunningMesh, channel: grpc.Channel) -> None:
    stub = mesh_service_pb2_grpc.MeshServiceStub(channel)
    models = stub.ListModels(
        mesh_service_pb2.ListModelsRequest(), metadata=mesh.metadata, timeout=TIMEOUT_S
    ).models
    ready = {
        f"{entry.service}/{entry.model.name}"
        for entry in models
        if entry.model.state == replica_service_pb2.ModelStatus.STATE_READY
    }
    assert {
        "vision/efficientnet-lite0",
        "vision/pp-ocr",
        "nlp/minilm",
        "speech/moonshine-tiny-en",
        "speech/silero-vad",
    } <= ready
    replicas = stub.ListReplicas(
        mesh_service_pb2.ListReplicasRequest(), metadata=mesh.metadata, timeout=TIMEOUT_S
    ).replicas
    assert {replica.service for replica in replicas} == {"vision", "nlp", "speech"}
    limits = stub.GetLimits(
        mesh_service_pb2.GetLimitsRequest(), metadata=mesh.metadata, timeout=TIMEOUT_S
    ).limits
    by_method = {limit.method: limit for limit in limits}
    assert by_method["sensorium.vision.v1.VisionService/ClassifyImage"].max_pixels > 0
    assert by_method["sensorium.speech.v1.SpeechService/Transcribe"].max_audio.seconds > 0
    assert by_method["sensorium.nlp.v1.NlpService/EmbedText"].max_characters > 0
