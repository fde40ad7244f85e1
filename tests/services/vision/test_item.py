"""The items of a call side by side: a bad one alone, anything else ends the call and the work on the others."""

import asyncio
import gc
import weakref

import pytest
from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision.rpc.item import answer_each
from shared.errors import InvalidArgument, ResourceExhausted
from tests.support.waiting import within


def images(count: int) -> list[pb.Image]:
    return [pb.Image(content=bytes([at])) for at in range(count)]


def refuse(status: status_pb2.Status) -> str:
    return status.message


async def test_results_are_in_the_order_of_the_images_whoever_is_first():
    gates = [asyncio.Event() for _ in range(3)]

    async def answer(content: bytes, field: str) -> str:
        at = content[0]
        if at + 1 < len(gates):
            await gates[at + 1].wait()
        gates[at].set()
        return f"{at} {field}"

    results = await within(answer_each(images(3), answer, refuse))
    assert results == ["0 images[0].content", "1 images[1].content", "2 images[2].content"]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_bad_item_becomes_its_own_result(count: int):
    async def answer(content: bytes, field: str) -> str:
        if content == b"\x00":
            raise InvalidArgument(field, expected="an image", got="none")
        return "good"

    results = await within(answer_each(images(count), answer, refuse))
    assert results == ["images[0].content: expected an image, got none", *["good"] * (count - 1)]


@pytest.mark.parametrize("count", [1, 3])
async def test_another_error_ends_the_call_and_the_other_items(count: int):
    cancelled = []

    async def answer(content: bytes, field: str) -> str:
        if content == b"\x00":
            raise ResourceExhausted("queue", limit="1", retry_after_s=1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(content[0])
            raise
        return "never"

    with pytest.raises(ResourceExhausted):
        await within(answer_each(images(count), answer, refuse))
    assert sorted(cancelled) == list(range(1, count))


async def test_who_leaves_takes_all_items_with_him():
    started, cancelled = asyncio.Event(), []

    async def answer(content: bytes, field: str) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(content[0])
        return "never"

    call = asyncio.ensure_future(answer_each(images(3), answer, refuse))
    await within(started.wait())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(call)
    assert sorted(cancelled) == [0, 1, 2]


async def test_a_refused_image_is_freed_at_once():
    held: list[weakref.ref[Held]] = []

    async def answer(content: bytes, field: str) -> str:
        decoded = Held()
        held.append(weakref.ref(decoded))
        # As a future does that the work was given to: the frame names the error, and the error the frame.
        problem = InvalidArgument(field, expected="an image", got="none")
        raise problem

    gc.disable()
    try:
        await within(answer_each(images(3), answer, refuse))
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


class Held:
    """Stands for a decoded image."""
