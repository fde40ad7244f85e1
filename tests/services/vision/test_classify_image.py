"""ClassifyImage with the real model on both fronts: true answers, each to its own image, bad ones alone."""

import asyncio

import grpc
import pytest
from PIL import Image
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.services.vision.asking import ask, images, open_image, refused
from tests.services.vision.picture import encode
from tests.services.vision.test_decode import make_png_header
from tests.support.serving import get_details, get_status

pytestmark = pytest.mark.asyncio(loop_scope="module")

CATS = {"Egyptian cat", "tabby", "tiger cat"}


async def test_a_cat_is_a_cat(vision, cat):
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(cat))))
    (result,) = reply.results
    assert result.status.code == 0
    assert len(result.classifications) == 5
    first = result.classifications[0]
    assert first.label in {"Egyptian cat", "tabby"}
    assert 0.2 < first.score < 1
    assert {one.label for one in result.classifications[:3]} == CATS
    scores = [one.score for one in result.classifications]
    assert scores == sorted(scores, reverse=True)
    assert reply.model.name == "vision/efficientnet-lite0"
    assert reply.model.version == "1"
    for phase in (reply.timing.preprocess, reply.timing.compute, reply.timing.postprocess):
        assert phase.ToNanoseconds() > 0


@pytest.mark.parametrize("name", ["efficientnet-lite0", "vision/efficientnet-lite0"])
async def test_the_model_may_be_named(vision, cat, name):
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(model=name, images=images(cat), top_k=1)))
    assert reply.model.name == "vision/efficientnet-lite0"
    assert len(reply.results[0].classifications) == 1


async def test_all_labels_sum_to_one_and_the_least_score_cuts(vision, cat):
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(cat), top_k=1000)))
    every = reply.results[0].classifications
    assert {one.index for one in every} == set(range(1000))
    assert sum(one.score for one in every) == pytest.approx(1, abs=1e-4)
    reply = await ask(
        vision.ClassifyImage(pb.ClassifyImageRequest(images=images(cat), top_k=1000, min_score=0.1))
    )
    kept = reply.results[0].classifications
    assert [one.label for one in kept] == [one.label for one in every if one.score >= 0.1]


async def test_the_same_cat_in_other_files(vision, cat):
    """Turned by EXIF, CMYK, with alpha, as large JPEG that is decoded at a fraction: always the same answer."""
    image = open_image(cat)
    exif = Image.Exif()
    exif[0x0112] = 6
    large = image.resize((image.width * 5, image.height * 5), Image.Resampling.BICUBIC)
    contents = [
        encode(image, "PNG"),
        encode(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif),
        encode(image.convert("CMYK"), "TIFF"),
        encode(image.convert("RGBA"), "WEBP", lossless=True),
        encode(image, "JPEG", quality=97, subsampling=0),
        encode(large, "JPEG", quality=95, subsampling=0),
        encode(large, "BMP"),
    ]
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*contents))))
    first = reply.results[0].classifications
    for result in reply.results[1:4]:
        assert [one.label for one in result.classifications[:3]] == [one.label for one in first[:3]]
        assert [one.score for one in result.classifications] == pytest.approx(
            [one.score for one in first], abs=0.01
        )
    for result in reply.results[4:]:
        assert {one.label for one in result.classifications[:3]} == CATS
        assert result.classifications[0].score == pytest.approx(first[0].score, abs=0.08)
    fraction, whole = reply.results[5].classifications, reply.results[6].classifications
    assert [one.label for one in fraction[:3]] == [one.label for one in whole[:3]]
    assert [one.score for one in fraction[:3]] == pytest.approx([one.score for one in whole[:3]], abs=0.03)


async def test_a_bad_image_fails_alone(vision, cat):
    contents = [cat, b"", b"words, not pixels", cat[: len(cat) // 2], make_png_header(30_000, 30_000), cat]
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*contents))))
    codes = [result.status.code for result in reply.results]
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert codes == [0, invalid, invalid, invalid, invalid, 0]
    for index, words in ((1, "0 bytes"), (2, "text"), (3, "truncated"), (4, "50,000,000 pixels")):
        status = reply.results[index].status
        assert status.message.startswith(f"images[{index}].content: expected ")
        assert words in status.message
        (violation,) = get_details(status)["BadRequest"].field_violations
        assert violation.field == f"images[{index}].content"
        assert not reply.results[index].classifications
    for index in (0, 5):
        assert reply.results[index].classifications[0].label in CATS


async def test_answers_are_not_swapped_and_do_not_depend_on_company(vision, cat):
    """Sixteen callers, each with an image of its own, together get what each gets alone."""
    image = open_image(cat)
    contents = [encode(image.rotate(at * 20), "PNG") for at in range(16)]

    async def scores(content):
        reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(content), top_k=10)))
        return {one.index: one.score for one in reply.results[0].classifications}

    alone = [await scores(content) for content in contents]
    together = await asyncio.gather(*(scores(content) for content in contents))
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*contents), top_k=10)))
    in_one_call = [{one.index: one.score for one in result.classifications} for result in reply.results]
    for expected, *others in zip(alone, together, in_one_call, strict=True):
        for other in others:
            assert other == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (
            pb.ClassifyImageRequest(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "images: expected 1 to 32 images, got 0",
        ),
        (pb.ClassifyImageRequest(images=[pb.Image()] * 33), grpc.StatusCode.INVALID_ARGUMENT, "got 33"),
        (pb.ClassifyImageRequest(images=[pb.Image()], top_k=1001), grpc.StatusCode.INVALID_ARGUMENT, "top_k"),
        (
            pb.ClassifyImageRequest(images=[pb.Image()], min_score=float("nan")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "min_score: expected a number from 0 to 1, got nan",
        ),
        (
            pb.ClassifyImageRequest(images=[pb.Image()], model="resnet"),
            grpc.StatusCode.NOT_FOUND,
            "centerface, centernet, digits, efficientnet-lite0, pp-ocr",
        ),
        (
            pb.ClassifyImageRequest(images=[pb.Image()], model="centernet"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "efficientnet-lite0",
        ),
    ],
)
async def test_what_concerns_the_whole_call_fails_it(vision, request_, code, words):
    error = await refused(vision.ClassifyImage(request_))
    assert error.code() is code
    assert words in error.details()
    assert get_status(error).code == code.value[0]


async def test_no_work_after_the_deadline(vision, cat):
    error = await refused(
        vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*[cat] * 32)), timeout=0.02)
    )
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
