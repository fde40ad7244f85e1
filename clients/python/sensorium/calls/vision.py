"""Calls about images."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from sensorium.calls.listing import listing
from sensorium.calls.plan import Plan, Rpc, enum_name
from sensorium.inputs import Image, read_image
from sensorium.results import (
    Box,
    DetectedObject,
    Face,
    ImageEmbedding,
    ImageExplanation,
    ImageFaces,
    ImageLabels,
    ImageObjects,
    ImageText,
    Label,
    Point,
    Result,
    TextLine,
)
from sensorium.vision.v1 import vision_service_pb2 as pb2

_SERVICE = "/sensorium.vision.v1.VisionService"
_CLASSIFY = Rpc(f"{_SERVICE}/ClassifyImage", pb2.ClassifyImageRequest, pb2.ClassifyImageResponse)
_DETECT_OBJECTS = Rpc(f"{_SERVICE}/DetectObjects", pb2.DetectObjectsRequest, pb2.DetectObjectsResponse)
_DETECT_FACES = Rpc(f"{_SERVICE}/DetectFaces", pb2.DetectFacesRequest, pb2.DetectFacesResponse)
_READ_TEXT = Rpc(f"{_SERVICE}/ReadText", pb2.ReadTextRequest, pb2.ReadTextResponse)
_EMBED = Rpc(f"{_SERVICE}/EmbedImage", pb2.EmbedImageRequest, pb2.EmbedImageResponse)
_EXPLAIN = Rpc(f"{_SERVICE}/ExplainImage", pb2.ExplainImageRequest, pb2.ExplainImageResponse)

# Below every default of the service (32, and 8 for reading); more calls of fewer images also spread over replicas.
_MAX_ITEMS = 8
# A call explains its images one after the other: with one in each, several replicas work on a list.
_MAX_EXPLAINED = 1

R = TypeVar("R", bound=Result)


def classify_image(
    images: Sequence[Image], *, model: str, top_k: int, min_score: float
) -> Plan[list[ImageLabels]]:
    """See `Client.classify_image`."""
    return _plan(
        _CLASSIFY,
        images,
        lambda messages: pb2.ClassifyImageRequest(
            model=model, images=messages, top_k=top_k, min_score=min_score
        ),
        ImageLabels,
        lambda item: {"labels": tuple(Label(c.label, c.index, c.score) for c in item.classifications)},
    )


def detect_objects(
    images: Sequence[Image], *, model: str, min_score: float | None, max_results: int
) -> Plan[list[ImageObjects]]:
    """See `Client.detect_objects`."""
    return _plan(
        _DETECT_OBJECTS,
        images,
        lambda messages: pb2.DetectObjectsRequest(
            model=model, images=messages, min_score=min_score, max_results=max_results
        ),
        ImageObjects,
        lambda item: {
            "objects": tuple(DetectedObject(o.label, o.index, o.score, _box(o.box)) for o in item.objects)
        },
    )


def detect_faces(
    images: Sequence[Image], *, model: str, min_score: float | None, max_results: int
) -> Plan[list[ImageFaces]]:
    """See `Client.detect_faces`."""
    return _plan(
        _DETECT_FACES,
        images,
        lambda messages: pb2.DetectFacesRequest(
            model=model, images=messages, min_score=min_score, max_results=max_results
        ),
        ImageFaces,
        lambda item: {
            "faces": tuple(Face(f.score, _box(f.box), _landmarks(f.landmarks)) for f in item.faces)
        },
    )


def read_text(images: Sequence[Image], *, model: str, min_score: float | None) -> Plan[list[ImageText]]:
    """See `Client.read_text`."""
    return _plan(
        _READ_TEXT,
        images,
        lambda messages: pb2.ReadTextRequest(model=model, images=messages, min_score=min_score),
        ImageText,
        lambda item: {
            "text": item.text,
            "lines": tuple(
                TextLine(line.text, line.score, tuple(map(_point, line.corners))) for line in item.lines
            ),
        },
    )


def embed_image(images: Sequence[Image], *, model: str) -> Plan[list[ImageEmbedding]]:
    """See `Client.embed_image`."""
    return _plan(
        _EMBED,
        images,
        lambda messages: pb2.EmbedImageRequest(model=model, images=messages),
        ImageEmbedding,
        lambda item: {"values": tuple(item.embedding.values)},
    )


def explain_image(
    images: Sequence[Image], *, label: str, model: str, max_runs: int
) -> Plan[list[ImageExplanation]]:
    """See `Client.explain_image`."""
    return _plan(
        _EXPLAIN,
        images,
        lambda messages: pb2.ExplainImageRequest(
            model=model, images=messages, label=label, max_runs=max_runs
        ),
        ImageExplanation,
        lambda item: {
            "label": item.label,
            "index": item.index,
            "score": item.score,
            "base_score": item.base_score,
            "attributions": tuple(
                tuple(item.attributions[row * item.columns : (row + 1) * item.columns])
                for row in range(item.rows)
            ),
            "heat_map": item.heat_map,
            "run_count": item.run_count,
        },
        max_items=_MAX_EXPLAINED,
    )


def _plan(
    rpc: Rpc,
    images: Sequence[Image],
    ask: Callable[[Sequence[Any]], Message],
    kind: type[R],
    parse: Callable[[Any], dict[str, Any]],
    max_items: int = _MAX_ITEMS,
) -> Plan[list[R]]:
    messages = [pb2.Image(content=read_image(image)) for image in images]
    sizes = [len(message.content) for message in messages]
    return listing(rpc, messages, sizes=sizes, max_items=max_items, ask=ask, kind=kind, parse=parse)


def _box(box: pb2.BoundingBox) -> Box:
    return Box(box.x_min, box.y_min, box.x_max, box.y_max)


def _point(point: pb2.Point) -> Point:
    return Point(point.x, point.y)


def _landmarks(landmarks: Sequence[pb2.FaceLandmark]) -> dict[str, Point]:
    return {enum_name(pb2.FaceLandmark.Kind, mark.kind, "KIND_"): _point(mark.position) for mark in landmarks}
