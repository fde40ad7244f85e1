"""The bounds of every rpc, checked before an image is decoded, and how they are told to those who ask.

Lives here: the numbers. Not here: the checks (`validation`, `decode`).
"""

from pydantic import Field
from sensorium.types.v1 import limits_pb2

from shared.settings import Settings

SERVICE = "sensorium.vision.v1.VisionService"

# The size from which on Pillow itself warns of a decompression bomb; at 4 bytes a pixel, 358 MB once decoded.
MOST_PIXELS = 89_478_485


class ImageBounds(Settings):
    """What one rpc accepts."""

    max_items: int = Field(default=32, ge=1, le=1024, description="images in one call")
    max_image_bytes: int = Field(default=20 * 2**20, ge=1, description="bytes of one encoded image")
    max_pixels: int = Field(
        default=50_000_000, ge=1, le=MOST_PIXELS, description="width x height of one image"
    )


class ExplainBounds(ImageBounds):
    """What ExplainImage accepts: each image is many runs."""

    max_items: int = Field(default=4, ge=1, le=64, description="images in one call")
    max_runs: int = Field(default=1024, ge=16, le=65_536, description="runs of the model per image")


class Bounds(Settings):
    """The bounds of all rpcs. Fewer items where one image costs seconds rather than milliseconds of computing."""

    classify_image: ImageBounds = ImageBounds()
    embed_image: ImageBounds = ImageBounds()
    detect_objects: ImageBounds = ImageBounds()
    detect_faces: ImageBounds = ImageBounds()
    read_text: ImageBounds = ImageBounds(max_items=8)
    explain_image: ExplainBounds = ExplainBounds()


def describe(bounds: Bounds, max_message_bytes: int) -> list[limits_pb2.RpcLimits]:
    """The bounds as GetLimits tells them, one entry per rpc."""
    named: dict[str, ImageBounds] = {
        "ClassifyImage": bounds.classify_image,
        "DetectObjects": bounds.detect_objects,
        "DetectFaces": bounds.detect_faces,
        "ReadText": bounds.read_text,
        "EmbedImage": bounds.embed_image,
        "ExplainImage": bounds.explain_image,
    }
    return [
        limits_pb2.RpcLimits(
            method=f"{SERVICE}/{rpc}",
            max_message_bytes=max_message_bytes,
            max_items=bound.max_items,
            max_item_bytes=bound.max_image_bytes,
            max_pixels=bound.max_pixels,
            max_runs=bound.max_runs if isinstance(bound, ExplainBounds) else 0,
        )
        for rpc, bound in named.items()
    ]
