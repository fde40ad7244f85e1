"""DetectObjects with the real model: what is where, in pixels of the upright image."""

import pytest
from PIL import Image
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.services.vision.asking import ask, images, open_image
from tests.services.vision.picture import encode

pytestmark = pytest.mark.asyncio(loop_scope="module")


def edges(box):
    return [box.x_min, box.y_min, box.x_max, box.y_max]


async def test_a_person_is_found(vision, portrait):
    reply = await ask(vision.DetectObjects(pb.DetectObjectsRequest(images=images(portrait))))
    (result,) = reply.results
    assert reply.model.name == "vision/centernet"
    person = result.objects[0]
    assert (person.label, person.index) == ("person", 0)
    assert person.score > 0.4
    x_min, y_min, x_max, y_max = edges(person.box)
    assert 0 <= x_min < 150
    assert 0 <= y_min < 100
    assert 250 < x_max <= 512
    assert 400 < y_max <= 512


async def test_boxes_refer_to_the_upright_image_as_it_was_sent(vision, portrait):
    """Twice as wide, and stored on its side: the same box, its x twice as large."""
    image = open_image(portrait)
    wide = image.resize((1024, 512), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 8
    stored = encode(wide.transpose(Image.Transpose.ROTATE_270), "PNG", exif=exif)
    reply = await ask(
        vision.DetectObjects(pb.DetectObjectsRequest(images=images(portrait, stored), max_results=1))
    )
    first, second = (edges(result.objects[0].box) for result in reply.results)
    assert second == pytest.approx([first[0] * 2, first[1], first[2] * 2, first[3]], abs=8)


async def test_thresholds_and_numbers(vision, portrait):
    async def find(**options):
        reply = await ask(vision.DetectObjects(pb.DetectObjectsRequest(images=images(portrait), **options)))
        return list(reply.results[0].objects)

    plain, every = await find(), await find(min_score=0.0)
    assert len(every) > len(plain)
    assert all(one.score >= 0.3 for one in plain)
    assert [one.score for one in every] == sorted((one.score for one in every), reverse=True)
    assert len(await find(min_score=0.0, max_results=3)) == 3
    assert await find(min_score=1.0) == []


async def test_a_bad_image_fails_alone(vision, portrait):
    reply = await ask(
        vision.DetectObjects(pb.DetectObjectsRequest(images=images(b"PK\x03\x04....", portrait)))
    )
    assert "zip archive" in reply.results[0].status.message
    assert reply.results[1].objects[0].label == "person"
