"""DetectFaces with the real model: one face, its five marks where they belong."""

import pytest
from PIL import Image
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.services.vision.asking import ask, images, open_image
from tests.services.vision.picture import encode

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_face_with_its_marks(vision, portrait):
    reply = await ask(vision.DetectFaces(pb.DetectFacesRequest(images=images(portrait))))
    (face,) = reply.results[0].faces
    assert reply.model.name == "vision/centerface"
    assert face.score > 0.8
    box = face.box
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((182, 58, 270, 178), abs=12)
    places = {mark.kind: mark.position for mark in face.landmarks}
    kinds = pb.FaceLandmark.Kind
    assert set(places) == {
        kinds.KIND_LEFT_EYE,
        kinds.KIND_RIGHT_EYE,
        kinds.KIND_NOSE_TIP,
        kinds.KIND_MOUTH_LEFT,
        kinds.KIND_MOUTH_RIGHT,
    }
    assert all(
        box.x_min < place.x < box.x_max and box.y_min < place.y < box.y_max for place in places.values()
    )
    assert places[kinds.KIND_LEFT_EYE].x < places[kinds.KIND_NOSE_TIP].x < places[kinds.KIND_RIGHT_EYE].x
    assert places[kinds.KIND_MOUTH_LEFT].x < places[kinds.KIND_MOUTH_RIGHT].x
    assert places[kinds.KIND_LEFT_EYE].y < places[kinds.KIND_NOSE_TIP].y < places[kinds.KIND_MOUTH_LEFT].y


async def test_coordinates_follow_the_image(vision, portrait):
    """Enlarged, and with a white field to its left."""
    image = open_image(portrait)
    large = image.resize((1000, 1000), Image.Resampling.BICUBIC)
    shifted = Image.new("RGB", (700, 512), "white")
    shifted.paste(image, (188, 0))
    contents = [portrait, encode(large, "JPEG", quality=95), encode(shifted, "PNG")]
    reply = await ask(vision.DetectFaces(pb.DetectFacesRequest(images=images(*contents))))
    plain, larger, right = (result.faces[0] for result in reply.results)
    scale = 1000 / 512
    assert larger.box.x_min == pytest.approx(plain.box.x_min * scale, abs=16)
    assert larger.box.y_max == pytest.approx(plain.box.y_max * scale, abs=16)
    assert right.box.x_min == pytest.approx(plain.box.x_min + 188, abs=8)
    for mark, moved in zip(plain.landmarks, right.landmarks, strict=True):
        assert moved.position.x == pytest.approx(mark.position.x + 188, abs=6)
        assert moved.position.y == pytest.approx(mark.position.y, abs=6)


async def test_no_face_on_a_cat_or_a_page_and_none_above_one(vision, cat, page, portrait):
    reply = await ask(vision.DetectFaces(pb.DetectFacesRequest(images=images(cat, page))))
    assert [len(result.faces) for result in reply.results] == [0, 0]
    assert [result.status.code for result in reply.results] == [0, 0]
    reply = await ask(vision.DetectFaces(pb.DetectFacesRequest(images=images(portrait), min_score=1.0)))
    assert not reply.results[0].faces


async def test_the_lowest_threshold_is_answered_within_the_number_asked_for(vision, portrait):
    request = pb.DetectFacesRequest(images=images(portrait), min_score=0.0, max_results=7)
    assert len((await ask(vision.DetectFaces(request))).results[0].faces) == 7
