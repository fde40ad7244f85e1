"""EmbedImage with the real model: unit vectors, near for what is alike."""

import pytest
from PIL import ImageOps
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.services.vision.asking import ask, images, open_image, refused
from tests.services.vision.picture import encode

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_alike_is_near_and_all_have_length_one(vision, cat, portrait, page):
    mirrored = encode(ImageOps.mirror(open_image(cat)), "JPEG", quality=85)
    reply = await ask(
        vision.EmbedImage(pb.EmbedImageRequest(images=images(cat, mirrored, portrait, page, b"?")))
    )
    assert reply.model.name == "vision/efficientnet-lite0"
    vectors = [list(result.embedding.values) for result in reply.results[:4]]
    for vector in vectors:
        assert len(vector) == 1280
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-4)

    def likeness(one, other):
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

    assert likeness(0, 1) > 0.8
    assert max(likeness(0, 2), likeness(0, 3), likeness(2, 3)) < 0.6
    assert "images[4].content" in reply.results[4].status.message
    assert not reply.results[4].embedding.values


async def test_an_empty_call(vision):
    assert "images" in (await refused(vision.EmbedImage(pb.EmbedImageRequest()))).details()
