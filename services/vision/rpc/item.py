"""The items of a call, side by side: a bad one fails alone, anything else ends the call."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from shared.errors import InvalidArgument, let_go
from shared.side_by_side import run_side_by_side

T = TypeVar("T")


async def answer_each(
    images: Sequence[pb.Image],
    answer: Callable[[bytes, str], Awaitable[T]],
    refuse: Callable[[status_pb2.Status], T],
) -> list[T]:
    """One result per image, in their order.

    `answer` gets an image's bytes and its name in the request; where it raises InvalidArgument, the result is what
    `refuse` makes of the status. Every other error ends the call at once, and with it the work on the other images.
    """

    async def answer_one(index: int, image: pb.Image) -> T:
        try:
            return await answer(image.content, f"images[{index}].content")
        except InvalidArgument as error:
            let_go(error)
            return refuse(error.to_status())

    if len(images) == 1:
        return [await answer_one(0, images[0])]
    return await run_side_by_side(answer_one(index, image) for index, image in enumerate(images))
