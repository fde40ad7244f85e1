"""What a request may say: whole calls and single images, before anything is decoded."""

import math

import pytest
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision.limits import Bounds, ImageBounds, describe
from services.vision.validation import (
    ClassifyOptions,
    DetectOptions,
    ReadOptions,
    check_classify,
    check_content,
    check_detect,
    check_embed,
    check_read,
)
from shared.errors import InvalidArgument, InvalidArguments

BOUNDS = ImageBounds(max_items=3, max_image_bytes=100, max_pixels=1000)
ONE = [pb.Image(content=b"x")]


def test_defaults() -> None:
    assert check_classify(pb.ClassifyImageRequest(images=ONE), BOUNDS) == ClassifyOptions(5, 0.0)
    assert check_detect(pb.DetectObjectsRequest(images=ONE), BOUNDS) == DetectOptions(None, 100)
    assert check_detect(pb.DetectFacesRequest(images=ONE), BOUNDS) == DetectOptions(None, 100)
    assert check_read(pb.ReadTextRequest(images=ONE), BOUNDS) == ReadOptions(None)
    check_embed(pb.EmbedImageRequest(images=ONE), BOUNDS)


def test_what_is_given_is_kept() -> None:
    request = pb.ClassifyImageRequest(images=ONE, top_k=1000, min_score=1)
    assert check_classify(request, BOUNDS) == ClassifyOptions(1000, 1.0)
    detect = pb.DetectObjectsRequest(images=ONE, min_score=0, max_results=300)
    assert check_detect(detect, BOUNDS) == DetectOptions(0.0, 300)
    assert check_read(pb.ReadTextRequest(images=ONE, min_score=0), BOUNDS) == ReadOptions(0.0)


@pytest.mark.parametrize("count", [0, 4])
def test_the_number_of_images_is_bounded(count: int) -> None:
    images = ONE * count
    for check in (
        lambda: check_classify(pb.ClassifyImageRequest(images=images), BOUNDS),
        lambda: check_detect(pb.DetectObjectsRequest(images=images), BOUNDS),
        lambda: check_detect(pb.DetectFacesRequest(images=images), BOUNDS),
        lambda: check_read(pb.ReadTextRequest(images=images), BOUNDS),
        lambda: check_embed(pb.EmbedImageRequest(images=images), BOUNDS),
    ):
        with pytest.raises(
            InvalidArgument, match=rf"images: expected 1 to 3 images, got {count}; "
        ) as caught:
            check()
        assert caught.value.field == "images"


@pytest.mark.parametrize("top_k", [-1, 1001])
def test_top_k_is_bounded(top_k: int) -> None:
    with pytest.raises(InvalidArgument, match=f"top_k: expected 1 to 1000, or 0 for 5, got {top_k}"):
        check_classify(pb.ClassifyImageRequest(images=ONE, top_k=top_k), BOUNDS)


@pytest.mark.parametrize("max_results", [-1, 301])
def test_max_results_is_bounded(max_results: int) -> None:
    for request in (
        pb.DetectObjectsRequest(images=ONE, max_results=max_results),
        pb.DetectFacesRequest(images=ONE, max_results=max_results),
    ):
        with pytest.raises(InvalidArgument, match=f"max_results: expected 1 to 300, .* got {max_results}"):
            check_detect(request, BOUNDS)


@pytest.mark.parametrize("score", [-0.1, 1.5, math.nan, math.inf])
def test_a_score_is_a_probability(score: float) -> None:
    for check in (
        lambda: check_classify(pb.ClassifyImageRequest(images=ONE, min_score=score), BOUNDS),
        lambda: check_detect(pb.DetectObjectsRequest(images=ONE, min_score=score), BOUNDS),
        lambda: check_read(pb.ReadTextRequest(images=ONE, min_score=score), BOUNDS),
    ):
        with pytest.raises(InvalidArgument, match="min_score: expected a number from 0 to 1"):
            check()


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidArguments) as caught:
        check_classify(pb.ClassifyImageRequest(top_k=-1, min_score=2), BOUNDS)
    assert [problem.field for problem in caught.value.violations] == ["images", "top_k", "min_score"]


def test_an_empty_image_and_one_too_large() -> None:
    check_content(b"x" * 100, "images[0].content", BOUNDS)
    with pytest.raises(InvalidArgument, match=r"images\[1\].content: expected an encoded image, got 0 bytes"):
        check_content(b"", "images[1].content", BOUNDS)
    with pytest.raises(InvalidArgument, match="expected at most 100 bytes, got 101; "):
        check_content(b"x" * 101, "images[0].content", BOUNDS)


def test_bounds_are_told_as_they_are() -> None:
    told = {limit.method.rpartition("/")[2]: limit for limit in describe(Bounds(), 1234)}
    assert set(told) == {
        "ClassifyImage",
        "DetectObjects",
        "DetectFaces",
        "ReadText",
        "EmbedImage",
        "ExplainImage",
    }
    assert told["ReadText"].method == "sensorium.vision.v1.VisionService/ReadText"
    assert told["ReadText"].max_items == Bounds().read_text.max_items
    assert told["ClassifyImage"].max_item_bytes == Bounds().classify_image.max_image_bytes
    assert told["ClassifyImage"].max_pixels == Bounds().classify_image.max_pixels
    assert {limit.max_message_bytes for limit in told.values()} == {1234}
