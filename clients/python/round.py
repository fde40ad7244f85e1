"""One round through a running mesh, as the other languages do it: typed calls, a stream, errors, a deadline, a retry.

Prints one JSON object. Usage: python round.py PHOTO CLIP
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
from sensorium import Client, SensoriumError
from sensorium.connection import connection
from sensorium.errors import from_rpc_error
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

SENTENCES = ["A cat is sleeping on the sofa.", "The kitten naps on the couch.", "Interest rates rose again."]
TIMEOUT_S = 60


def classify(client: Client, photo: Path) -> dict[str, object]:
    """What the photo shows."""
    found = client.classify_image(photo, top_k=3)
    return {"label": found.label, "score": found.score, "model": found.model.name}


def compare(client: Client) -> dict[str, object]:
    """How alike two sentences of one meaning are, and two of different ones."""
    cat, kitten, rates = client.embed_text(SENTENCES)
    return {"dimensions": len(cat), "near": cat.similarity(kitten), "far": cat.similarity(rates)}


def refused(call: Callable[[], object]) -> SensoriumError:
    """The error that a call is expected to end with."""
    try:
        call()
    except SensoriumError as error:
        return error
    raise AssertionError("expected the call to be refused, it was answered")


def infer(ids: list[str]) -> dict[str, object]:
    """Messages over one stream, by the generated stubs; `Client.stream_infer` does it with arrays."""

    def message(id_: str) -> inference_pb2.ModelInferRequest:
        request = inference_pb2.ModelInferRequest(model_name="minilm", id=id_)
        for name, elements in (("input_ids", [101, 4937, 102]), ("attention_mask", [1, 1, 1])):
            tensor = request.inputs.add(name=name, datatype="INT64", shape=[1, 3])
            tensor.contents.int64_contents.extend(elements)
        return request

    where = connection()
    with where.open_channel() as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        replies = list(stub.ModelStreamInfer(map(message, ids), metadata=where.metadata(), timeout=TIMEOUT_S))
    errors = sum(bool(reply.error_message) for reply in replies)
    return {"ids": [reply.infer_response.id for reply in replies], "errors": errors}


def ask_for_nothing() -> dict[str, object]:
    """A request without images, which `Client` would not send, and what its error says."""
    where = connection()
    with where.open_channel() as channel:
        stub = vision_service_pb2_grpc.VisionServiceStub(channel)
        request = vision_service_pb2.ClassifyImageRequest()
        try:
            stub.ClassifyImage(request, metadata=where.metadata(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            found = from_rpc_error(error, address=where.target)
            fields = [violation.field for violation in found.violations]
            return {
                "code": found.code,
                "field": fields[0],
                "reason": found.reason,
                "requestId": bool(found.request_id),
            }
    raise AssertionError("expected the call to be refused, it was answered")


def main(photo: Path, clip: Path) -> None:
    """See the module."""
    flaky_address = os.environ.get("SENSORIUM_FLAKY_ADDRESS")
    with Client() as client, Client(token="") as stranger, Client(flaky_address) as flaky:
        said = {
            "photo": classify(client, photo),
            "sentence": compare(client),
            "clip": {"text": client.transcribe(clip).text},
            "models": len(client.list_models()),
            "stream": infer(["a", "b", "c"]),
            "noToken": {"code": refused(lambda: stranger.embed_text("x")).code},
            "empty": ask_for_nothing(),
            "unknown": {"code": refused(lambda: client.classify_image(photo, model="no-such-model")).code},
            "late": {"code": refused(lambda: client.classify_image(photo, timeout_s=0.001)).code},
            "retried": {"dimensions": len(flaky.embed_text("again"))},
            "client": {"language": "python", "grpc": grpc.__version__, "runtime": platform.python_version()},
        }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python round.py PHOTO CLIP")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
