"""ClassifyImage with the digits model: real handwriting out of the golden file, drawn digits, pictures of nothing."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision.pipeline import digit
from services.vision.pipeline.classification import softmax
from shared.inference.artifact import read_artifact
from tests.services.vision.asking import ask, images, refused
from tests.services.vision.picture import encode

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHIPPED = Path(__file__).parents[3] / "services" / "vision" / "models" / "digits" / "1"


def draw(text: str, *, ink: int = 0, ground: int = 255, height: int = 90) -> Image.Image:
    image = Image.new("RGB", (2 * height, 2 * height), (ground,) * 3)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text((height, height), text, (ink,) * 3, font, anchor="mm")
    return image


@pytest.fixture(scope="module")
def written() -> np.ndarray:
    """One handwritten digit of each kind, as training saw it, UINT8 [10, 28, 28]."""
    inputs = read_artifact(SHIPPED).read_golden()["model/in/image"]
    return np.rint(inputs[:, 0] * 255).astype(np.uint8)


async def test_handwriting_is_read_as_pytorch_read_it(vision, written):
    golden = read_artifact(SHIPPED).read_golden()["model/out/logits"]
    contents = [encode(Image.fromarray(pixels), "PNG") for pixels in written]
    reply = await ask(
        vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*contents), model="digits", top_k=10))
    )
    assert reply.model.name == "vision/digits"
    for label, (result, logits) in enumerate(zip(reply.results, golden, strict=True)):
        best = result.classifications[0]
        assert (best.label, best.index) == (str(label), label)
        assert len(result.classifications) == 10
        assert sum(one.score for one in result.classifications) == pytest.approx(1, abs=1e-5)
        # Prepared once more, a picture moves by less than a pixel, and the weights are int8.
        assert best.score == pytest.approx(softmax(logits)[label], abs=0.15)


# Pillow's own font writes the 1 with a long upstroke, which the card counts among the limits.
DRAWN = "023456789"


async def test_size_colour_and_format_do_not_matter(vision):
    contents = [
        encode(draw(label, ink=ink, ground=ground, height=height), kind)
        for label in DRAWN
        for ink, ground, height, kind in (
            (0, 255, 90, "PNG"),
            (250, 5, 30, "WEBP"),
            (60, 170, 400, "JPEG"),
        )
    ]
    reply = await ask(
        vision.ClassifyImage(pb.ClassifyImageRequest(images=images(*contents), model="vision/digits"))
    )
    seen = [result.classifications[0].label for result in reply.results]
    assert seen == [label for label in DRAWN for _ in range(3)]


async def test_a_blank_picture_fails_alone(vision):
    blank = encode(Image.new("RGB", (100, 100), (90, 120, 90)), "PNG")
    reply = await ask(
        vision.ClassifyImage(
            pb.ClassifyImageRequest(
                images=images(encode(draw("4"), "PNG"), blank, b"no image"), model="digits"
            )
        )
    )
    good, empty, broken = reply.results
    assert good.classifications[0].label == "4"
    assert empty.status.code == broken.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert empty.status.message == (
        "images[1].content: expected a picture of one digit, got a picture of one tone (contrast 0 of 255); "
        "send one with more contrast"
    )
    assert "images[2].content" in broken.status.message


async def test_photographs_stay_with_the_default_model(vision, cat):
    reply = await ask(vision.ClassifyImage(pb.ClassifyImageRequest(images=images(cat))))
    assert reply.model.name == "vision/efficientnet-lite0"
    # A model for digits has no place for a photograph's embedding.
    error = await refused(vision.EmbedImage(pb.EmbedImageRequest(images=images(cat), model="digits")))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "efficientnet-lite0" in error.details()


async def test_the_served_answer_is_the_pipelines_and_the_graphs(vision, written):
    """What is served, alone, is what the pipeline and the graph's file give, bit for bit."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        SHIPPED / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    picture = Image.fromarray(written[3])
    logits = session.run(["logits"], {"image": digit.prepare(picture.convert("RGB"))})[0][0]
    reply = await ask(
        vision.ClassifyImage(
            pb.ClassifyImageRequest(images=images(encode(picture, "PNG")), model="digits", top_k=10)
        )
    )
    scores = {one.index: one.score for one in reply.results[0].classifications}
    assert scores == {index: np.float32(score) for index, score in enumerate(softmax(logits))}
