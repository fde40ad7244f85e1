"""Calls as the tests make them: every one with a time limit, a refused one as its status."""

from collections.abc import Awaitable
from io import BytesIO
from typing import Any

import grpc
import pytest
from PIL import Image
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.support.waiting import within

# Reading a page on a busy machine, in seconds.
LIMIT_S = 60.0


def images(*contents: bytes) -> list[pb.Image]:
    """The images of a request."""
    return [pb.Image(content=content) for content in contents]


async def ask(call: Awaitable[Any]) -> Any:
    """The reply of a call."""
    return await within(call, LIMIT_S)


async def refused(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(call)
    return caught.value


def open_image(content: bytes) -> Image.Image:
    """Decoded by Pillow alone, mode RGB."""
    return Image.open(BytesIO(content)).convert("RGB")
