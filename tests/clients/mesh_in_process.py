"""A mesh small enough to hold in one's head: real grpc, real messages, answers that depend on the request alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.types.v1 import embedding_pb2, limits_pb2, model_pb2
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

MODEL = model_pb2.ModelRef(name="test/model", version="7")


def timing() -> model_pb2.Timing:
    times = model_pb2.Timing()
    times.compute.FromMilliseconds(1500)
    times.queue.FromMilliseconds(250)
    return times


def pack(*details: object) -> list[any_pb2.Any]:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return packed


def bad_input(field_name: str, description: str) -> status_pb2.Status:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field_name, description=description)
    return status_pb2.Status(
        code=code_pb2.INVALID_ARGUMENT,
        message=f"{field_name}: {description}",
        details=pack(
            error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="sensorium"),
            error_details_pb2.BadRequest(field_violations=[violation]),
        ),
    )


@dataclass
class Seen:
    """What arrived, in order of arrival."""

    requests: list[object] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def note(self, request: object, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        context.set_trailing_metadata((("x-request-id", "request-1"),))


def refuse(context: grpc.ServicerContext, status: status_pb2.Status) -> None:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    context.set_trailing_metadata(
        (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "request-1"))
    )
    context.abort(code, status.message)


class Vision(vision_service_pb2_grpc.VisionServiceServicer):
    """Labels every image with its bytes; the image b"bad" is refused."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def ClassifyImage(self, request, context):
        self.seen.note(request, context)
        results = []
        for at, image in enumerate(request.images):
            if image.content == b"bad":
                status = bad_input(f"images[{at}].content", "expected an image, got 3 bytes")
                results.append(vision_service_pb2.ClassifyImageResult(status=status))
                continue
            label = vision_service_pb2.Classification(
                label=image.content.decode("latin-1"), index=at, score=0.5
            )
            results.append(vision_service_pb2.ClassifyImageResult(classifications=[label]))
        if request.model == "short":
            results.pop()
        return vision_service_pb2.ClassifyImageResponse(results=results, model=MODEL, timing=timing())

    def DetectObjects(self, request, context):
        self.seen.note(request, context)
        box = vision_service_pb2.BoundingBox(x_min=1, y_min=2, x_max=3, y_max=4)
        found = vision_service_pb2.DetectedObject(label="person", index=0, score=0.75, box=box)
        result = vision_service_pb2.DetectObjectsResult(objects=[found])
        return vision_service_pb2.DetectObjectsResponse(results=[result] * len(request.images), model=MODEL)

    def DetectFaces(self, request, context):
        self.seen.note(request, context)
        mark = vision_service_pb2.FaceLandmark(
            kind=vision_service_pb2.FaceLandmark.KIND_NOSE_TIP, position=vision_service_pb2.Point(x=5, y=6)
        )
        newer = vision_service_pb2.FaceLandmark(kind=99, position=vision_service_pb2.Point(x=1, y=1))
        face = vision_service_pb2.DetectedFace(score=0.5, landmarks=[mark, newer])
        result = vision_service_pb2.DetectFacesResult(faces=[face])
        return vision_service_pb2.DetectFacesResponse(results=[result] * len(request.images), model=MODEL)

    def ReadText(self, request, context):
        self.seen.note(request, context)
        corners = [vision_service_pb2.Point(x=x, y=y) for x, y in ((0, 0), (9, 0), (9, 4), (0, 4))]
        line = vision_service_pb2.TextLine(text="hello", score=0.5, corners=corners)
        result = vision_service_pb2.ReadTextResult(text="hello", lines=[line])
        return vision_service_pb2.ReadTextResponse(results=[result] * len(request.images), model=MODEL)

    def EmbedImage(self, request, context):
        self.seen.note(request, context)
        embedding = embedding_pb2.Embedding(values=[0.6, 0.8])
        result = vision_service_pb2.EmbedImageResult(embedding=embedding)
        return vision_service_pb2.EmbedImageResponse(results=[result] * len(request.images), model=MODEL)

    def ExplainImage(self, request, context):
        self.seen.note(request, context)
        result = vision_service_pb2.ExplainImageResult(
            label=request.label or "cat",
            index=7,
            score=0.75,
            base_score=0.25,
            heat_map=b"png",
            rows=2,
            columns=3,
            attributions=[0, 1, 2, 3, 4, 5],
            run_count=16,
        )
        return vision_service_pb2.ExplainImageResponse(results=[result] * len(request.images), model=MODEL)


class Nlp(nlp_service_pb2_grpc.NlpServiceServicer):
    """Embeds a text as its length; a text that is the name of a status code ends the call with it."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def EmbedText(self, request, context):
        self.seen.note(request, context)
        said = request.texts[0]
        if said == "WAIT":
            context.add_callback(self.seen.cancelled.set)
            self.seen.cancelled.wait(20)
        if said in code_pb2.Code.DESCRIPTOR.values_by_name:
            delay = error_details_pb2.RetryInfo()
            delay.retry_delay.FromMilliseconds(1500)
            status = status_pb2.Status(
                code=code_pb2.Code.Value(said),
                message=f"{said} was asked for",
                details=pack(error_details_pb2.ErrorInfo(reason="ASKED_FOR", domain="sensorium"), delay),
            )
            refuse(context, status)
        script = nlp_service_pb2.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT
        expected = nlp_service_pb2.LANGUAGE_SUPPORT_EXPECTED
        results = [
            nlp_service_pb2.EmbedTextResult(
                embedding=embedding_pb2.Embedding(values=[len(text), 1]),
                token_count=len(text.split()),
                language_support=expected if text.isascii() else script,
            )
            for text in request.texts
        ]
        return nlp_service_pb2.EmbedTextResponse(results=results, model=MODEL, timing=timing())

    def ClassifyText(self, request, context):
        self.seen.note(request, context)
        labels = [
            nlp_service_pb2.LabelScore(label=label, score=0.5, similarity=0.25)
            for label in request.candidate_labels
        ] or [nlp_service_pb2.LabelScore(label="positive", score=0.75)]
        result = nlp_service_pb2.ClassifyTextResult(labels=labels, truncated=True)
        return nlp_service_pb2.ClassifyTextResponse(results=[result] * len(request.texts), model=MODEL)

    def DetectLanguage(self, request, context):
        self.seen.note(request, context)
        languages = [nlp_service_pb2.DetectedLanguage(code="pt", score=0.75)]
        result = nlp_service_pb2.DetectLanguageResult(languages=languages, reliable=True)
        return nlp_service_pb2.DetectLanguageResponse(results=[result] * len(request.texts), model=MODEL)

    def ExplainText(self, request, context):
        self.seen.note(request, context)
        results = [
            nlp_service_pb2.ExplainTextResult(
                label=request.label or "positive",
                score=0.75,
                base_score=0.5,
                attributions=[
                    nlp_service_pb2.TextAttribution(text=text[:1], begin=0, end=1, attribution=0.25)
                ],
                run_count=16,
            )
            for text in request.texts
        ]
        return nlp_service_pb2.ExplainTextResponse(results=results, model=MODEL)


class Speech(speech_service_pb2_grpc.SpeechServiceServicer):
    """Says how many bytes it got; the clip b"bad" is refused, the model `missing` is not there."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def Transcribe(self, request, context):
        self.seen.note(request, context)
        if request.audio.content == b"bad":
            refuse(context, bad_input("audio.content", "expected audio, got 3 bytes"))
        if request.model == "missing":
            refuse(context, status_pb2.Status(code=code_pb2.NOT_FOUND, message="no model is named missing"))
        reply = speech_service_pb2.TranscribeResponse(
            text=f"{len(request.audio.content)} bytes", language="en", model=MODEL, timing=timing()
        )
        reply.audio_duration.FromMilliseconds(2500)
        segment = reply.segments.add(text="one", stopped_early=True)
        segment.segment.start.FromMilliseconds(500)
        segment.segment.end.FromMilliseconds(1250)
        return reply

    def DetectSpeech(self, request, context):
        self.seen.note(request, context)
        reply = speech_service_pb2.DetectSpeechResponse(max_probability=0.5, model=MODEL)
        reply.speech_duration.FromMilliseconds(750)
        reply.segments.add().end.FromMilliseconds(750)
        return reply

    def EmbedSpeaker(self, request, context):
        self.seen.note(request, context)
        return speech_service_pb2.EmbedSpeakerResponse(
            embedding=embedding_pb2.Embedding(values=[1.0, 0.0]), model=MODEL
        )

    def RecognizeCommand(self, request, context):
        self.seen.note(request, context)
        reply = speech_service_pb2.RecognizeCommandResponse(model=MODEL)
        reply.commands.add(label="seven", language="en", score=0.75)
        reply.audio_duration.FromMilliseconds(800)
        return reply


class Mesh(mesh_service_pb2_grpc.MeshServiceServicer):
    """One model, one replica, one limit."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def ListModels(self, request, context):
        self.seen.note(request, context)
        model = replica_service_pb2.ModelStatus(
            name="minilm", version="1", state=replica_service_pb2.ModelStatus.STATE_READY, graphs=["minilm"]
        )
        entry = mesh_service_pb2.MeshModel(service="nlp", model=model, ready_replicas=1, replicas=2)
        return mesh_service_pb2.ListModelsResponse(models=[entry])

    def ListReplicas(self, request, context):
        self.seen.note(request, context)
        replica = mesh_service_pb2.MeshReplica(
            service="nlp",
            endpoint="127.0.0.1:1",
            state=mesh_service_pb2.MeshReplica.STATE_UNREACHABLE,
            reason="connection refused",
            models=[
                replica_service_pb2.ModelStatus(name="minilm", version=version, state=state)
                for version, state in (("1", 2), ("2", 3), ("3", 9))
            ],
        )
        return mesh_service_pb2.ListReplicasResponse(replicas=[replica])

    def GetLimits(self, request, context):
        self.seen.note(request, context)
        limit = limits_pb2.RpcLimits(method="sensorium.nlp.v1.NlpService/EmbedText", max_items=64)
        limit.max_audio.FromSeconds(90)
        return mesh_service_pb2.GetLimitsResponse(limits=[limit])


def start(
    seen: Seen,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
    register: Callable[[grpc.Server], None] | None = None,
) -> tuple[grpc.Server, str]:
    """Starts all typed services at `address`, and what `register` adds; returns the server and where it listens."""
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 32 << 20)]
    )
    vision_service_pb2_grpc.add_VisionServiceServicer_to_server(Vision(seen), server)
    nlp_service_pb2_grpc.add_NlpServiceServicer_to_server(Nlp(seen), server)
    speech_service_pb2_grpc.add_SpeechServiceServicer_to_server(Speech(seen), server)
    mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(Mesh(seen), server)
    if register is not None:
        register(server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, re.sub(":0$", f":{port}", address)
