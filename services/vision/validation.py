"""What a request may say, checked before anything is decoded. Pure: a request and bounds in, options or an error out.

Lives here: list lengths, byte counts, options. Not here: what is inside an image (`decode`), whether a model exists.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision.limits import ExplainBounds, ImageBounds
from shared.errors import InvalidArgument, InvalidArguments
from shared.inference.explanation.explaining import choose_runs

DEFAULT_TOP_K = 5
MAX_TOP_K = 1000
DEFAULT_RESULTS = 100
MAX_RESULTS = 300


@dataclass(frozen=True)
class ClassifyOptions:
    """Labels per image, and the probability below which one is left out."""

    top_k: int
    min_score: float


@dataclass(frozen=True)
class DetectOptions:
    """The score below which a find is left out (None: the model's own), and the most finds per image."""

    min_score: float | None
    max_results: int


@dataclass(frozen=True)
class ReadOptions:
    """The confidence below which a line is left out; None: the model's own."""

    min_score: float | None


def check_classify(request: pb.ClassifyImageRequest, bounds: ImageBounds) -> ClassifyOptions:
    """Options of a ClassifyImage call. Raises InvalidArgument(s) for what concerns the whole call."""
    problems = _check_images(request.images, bounds)
    problems += _check_range("top_k", request.top_k, MAX_TOP_K, f"0 for {DEFAULT_TOP_K}")
    problems += _check_score(request.min_score)
    _raise_any(problems)
    return ClassifyOptions(request.top_k or DEFAULT_TOP_K, request.min_score)


def check_detect(
    request: pb.DetectObjectsRequest | pb.DetectFacesRequest, bounds: ImageBounds
) -> DetectOptions:
    """Options of a DetectObjects or DetectFaces call. Raises InvalidArgument(s) for what concerns the whole call."""
    min_score = request.min_score if request.HasField("min_score") else None
    problems = _check_images(request.images, bounds)
    problems += _check_score(min_score)
    problems += _check_range("max_results", request.max_results, MAX_RESULTS, f"0 for {DEFAULT_RESULTS}")
    _raise_any(problems)
    return DetectOptions(min_score, request.max_results or DEFAULT_RESULTS)


def check_read(request: pb.ReadTextRequest, bounds: ImageBounds) -> ReadOptions:
    """Options of a ReadText call. Raises InvalidArgument(s) for what concerns the whole call."""
    min_score = request.min_score if request.HasField("min_score") else None
    _raise_any(_check_images(request.images, bounds) + _check_score(min_score))
    return ReadOptions(min_score)


def check_embed(request: pb.EmbedImageRequest, bounds: ImageBounds) -> None:
    """Raises InvalidArgument for what concerns the whole of an EmbedImage call; it has no options."""
    _raise_any(_check_images(request.images, bounds))


def check_explain(request: pb.ExplainImageRequest, bounds: ExplainBounds) -> int:
    """Runs per image of an ExplainImage call. Raises InvalidArgument for what concerns the whole call."""
    _raise_any(_check_images(request.images, bounds))
    return choose_runs(request.max_runs, bounds.max_runs)


def check_label(label: str, labels: Sequence[str]) -> list[int]:
    """Positions of the classes named `label`; none where it is empty. Raises InvalidArgument if no class is named so."""
    indices = [index for index, one in enumerate(labels) if label and one == label]
    if label and not indices:
        near = difflib.get_close_matches(label[:100], labels, n=5, cutoff=0.6)
        raise InvalidArgument(
            "label",
            expected=f"one of the model's {len(labels)} labels, as ClassifyImage writes them",
            got=repr(label[:100]),
            fix=f"did you mean {', '.join(map(repr, near))}?"
            if near
            else "leave it out for each image's best",
        )
    return indices


def check_content(content: bytes, field: str, bounds: ImageBounds) -> None:
    """Raises InvalidArgument for one image that is empty or has too many bytes; `field` is its name in the error."""
    if not content:
        raise InvalidArgument(
            field, expected="an encoded image", got="0 bytes", fix="put the bytes of an image file into it"
        )
    if len(content) > bounds.max_image_bytes:
        raise InvalidArgument(
            field,
            expected=f"at most {bounds.max_image_bytes:,} bytes",
            got=f"{len(content):,}",
            fix="scale the image down or compress it more",
        )


def _check_images(images: Sequence[pb.Image], bounds: ImageBounds) -> list[InvalidArgument]:
    if 1 <= len(images) <= bounds.max_items:
        return []
    fix = "send at least one image" if not images else "split the call"
    return [
        InvalidArgument("images", expected=f"1 to {bounds.max_items} images", got=str(len(images)), fix=fix)
    ]


def _check_range(field: str, value: int, most: int, default: str) -> list[InvalidArgument]:
    if 0 <= value <= most:
        return []
    return [InvalidArgument(field, expected=f"1 to {most}, or {default}", got=str(value))]


def _check_score(value: float | None) -> list[InvalidArgument]:
    # NaN fails the comparison as well.
    if value is None or 0.0 <= value <= 1.0:
        return []
    return [InvalidArgument("min_score", expected="a number from 0 to 1", got=f"{value:g}")]


def _raise_any(problems: Sequence[InvalidArgument]) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidArguments(problems)
