"""Streams of calls: order, bounds, errors in their places, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sensorium import AsyncClient, Client, errors

from tests.clients.mesh_in_process import Seen
from tests.support.waiting import take, within

WAIT_S = 20


def arrived(seen: Seen, count: int) -> bool:
    """Waits until so many requests have arrived."""
    ends_s = time.monotonic() + WAIT_S
    while len(seen.requests) < count and time.monotonic() < ends_s:
        threading.Event().wait(0.005)
    return len(seen.requests) >= count


def test_results_come_in_the_order_of_the_inputs(client: Client, seen: Seen) -> None:
    names = [f"image {number}" for number in range(40)]
    results = list(client.stream(client.classify_image, (name.encode() for name in names), top_k=1))
    assert [result.label for result in results] == names
    # A call each: they share batches in the mesh, with those of everybody else.
    assert [len(request.images) for request in seen.requests] == [1] * 40
    assert {request.top_k for request in seen.requests} == {1}
    assert list(client.stream(client.embed_text, [])) == []


def test_every_call_that_takes_inputs_can_be_streamed(client: Client) -> None:
    pictures = (
        client.detect_objects,
        client.detect_faces,
        client.read_text,
        client.embed_image,
        client.explain_image,
    )
    texts = (client.embed_text, client.detect_language, client.explain_text)
    clips = (client.transcribe, client.detect_speech, client.recognize_command, client.embed_speaker)
    for call, given in [*((call, b"x") for call in (*pictures, *clips)), *((call, "x") for call in texts)]:
        (result,) = client.stream(call, [given])
        assert result == call(given), call
    (labels,) = client.stream(client.classify_text, ["x"], labels=["a", "b"])
    assert labels.labels[0].label == "a"


def test_an_input_that_fails_does_not_end_the_stream(client: Client, tmp_path: Path) -> None:
    given = [b"good", b"bad", tmp_path / "missing.png", b"fine"]
    good, bad, missing, fine = client.stream(client.classify_image, given)
    assert (good.label, fine.label, good.error, fine.error) == ("good", "fine", None, None)
    assert isinstance(bad.error, errors.InvalidArgument)
    assert isinstance(missing.error, errors.InvalidArgument)
    assert (missing.error.reason, missing.labels) == ("INPUT_UNREADABLE", ())
    assert isinstance(missing.error.__cause__, FileNotFoundError)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_a_call_that_fails_by_itself_is_one_result(address: str, code: str) -> None:
    with Client(address, token="", retries=False) as client:
        one, failed, other = client.stream(client.embed_text, ["a", code, "b"])
    assert (failed.error.code, len(failed)) == (code, 0)
    assert one.error is other.error is None


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "NOT_FOUND", "UNAVAILABLE"])
def test_what_would_fail_all_inputs_is_raised(address: str, code: str) -> None:
    with Client(address, token="", retries=False) as client:
        results = client.stream(client.embed_text, ["a", code, "b"])
        assert next(results).token_count == 1
        with pytest.raises(errors.SensoriumError) as caught:
            next(results)
        assert caught.value.code == code
        assert list(results) == []


def test_a_bounded_number_of_inputs_is_taken(client: Client) -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"text {taken}"

    results = client.stream(client.embed_text, source(), at_once=3)
    for done, _ in enumerate(itertools.islice(results, 50), 1):
        assert taken <= done + 3
    results.close()


def test_results_do_not_wait_for_the_inputs_after_them(client: Client) -> None:
    go_on = threading.Event()

    def source() -> Iterator[str]:
        yield "first"
        assert go_on.wait(WAIT_S)
        yield "two words"

    results = client.stream(client.embed_text, source())
    assert next(results).token_count == 1
    go_on.set()
    assert next(results).token_count == 2
    with pytest.raises(StopIteration):
        next(results)


def test_what_the_inputs_raise_comes_after_what_was_asked(client: Client) -> None:
    def source() -> Iterator[str]:
        yield "a"
        yield "b"
        raise LookupError("the source is dry")

    results = client.stream(client.embed_text, source())
    assert [next(results).token_count, next(results).token_count] == [1, 1]
    with pytest.raises(LookupError, match="dry"):
        next(results)


def test_an_input_of_another_type_is_raised(client: Client) -> None:
    with pytest.raises(TypeError, match="expected a str, got int"):
        list(client.stream(client.embed_text, ["a", 1]))


def test_closing_cancels_what_is_under_way(client: Client, seen: Seen) -> None:
    results = client.stream(client.embed_text, iter(["a", "WAIT"]))
    next(results)
    assert arrived(seen, 2)
    results.close()
    assert seen.cancelled.wait(WAIT_S)


def test_a_stream_that_is_left_takes_no_more_inputs(client: Client) -> None:
    taken: list[str] = []
    go_on = threading.Event()
    over = threading.Event()

    def source() -> Iterator[str]:
        try:
            yield "a"
            assert go_on.wait(WAIT_S)
            taken.append("late")
            yield "late"
            taken.append("never")
        finally:
            over.set()

    results = client.stream(client.embed_text, source())
    next(results)
    results.close()
    go_on.set()
    assert over.wait(WAIT_S)
    assert taken == ["late"]


def test_what_is_no_call_with_inputs(client: Client) -> None:
    with pytest.raises(TypeError, match="expected a method of this client that takes inputs, classify_image"):
        client.stream(client.list_models, ["nlp"])
    with Client("127.0.0.1:1", token="") as other, pytest.raises(TypeError, match="a method of this client"):
        client.stream(other.embed_text, ["a"])
    with pytest.raises(TypeError, match="top_q"):
        client.stream(client.classify_image, [b"x"], top_q=1)
    with pytest.raises(ValueError, match="at_once: expected 1 or more, got 0"):
        client.stream(client.classify_image, [b"x"], at_once=0)


@pytest.mark.parametrize("inputs", ["photo.jpg", b"a photo", bytearray(b"a photo"), {"a": "b"}])
def test_one_input_is_no_stream_of_its_letters(
    client: Client, async_client: AsyncClient, inputs: Any
) -> None:
    for one in (client, async_client):
        with pytest.raises(TypeError, match="expected many of them"):
            one.stream(one.classify_image, inputs)
        with pytest.raises(TypeError, match="inputs: expected many"):
            one.stream_infer("echo", inputs)


@pytest.mark.parametrize("at_once", [2.5, "3", None])
def test_the_bound_is_a_whole_number(client: Client, at_once: Any) -> None:
    with pytest.raises(TypeError, match="at_once: expected a whole number, got"):
        list(client.stream(client.embed_text, ["a"], at_once=at_once))


async def test_async_results_come_in_order_from_either_kind_of_inputs(async_client: AsyncClient) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(20):
            yield "word " * (number + 1)

    expected = list(range(1, 21))
    found = [result.token_count async for result in async_client.stream(async_client.embed_text, source())]
    assert found == expected
    plain = ("word " * number for number in expected)
    found = [result.token_count async for result in async_client.stream(async_client.embed_text, plain)]
    assert found == expected


async def test_async_errors_have_their_places(async_client: AsyncClient, tmp_path: Path) -> None:
    given = [b"good", b"bad", tmp_path / "missing.png", b"fine"]
    results = [result async for result in async_client.stream(async_client.classify_image, given)]
    assert [result.label for result in results] == ["good", "", "", "fine"]
    assert [result.error is None for result in results] == [True, False, False, True]
    stream = async_client.stream(async_client.transcribe, [b"1"], model="missing")
    with pytest.raises(errors.NotFound):
        await take(stream)

    async def broken() -> AsyncIterator[str]:
        yield "a"
        raise LookupError("the source is dry")

    stream = async_client.stream(async_client.embed_text, broken())
    assert (await take(stream)).token_count == 1
    with pytest.raises(LookupError, match="dry"):
        await take(stream)


async def test_async_inputs_are_taken_in_bounds_and_results_do_not_wait(async_client: AsyncClient) -> None:
    taken = 0
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            if taken == 10:
                await go_on.wait()
            yield "text"

    async with contextlib.aclosing(
        async_client.stream(async_client.embed_text, source(), at_once=3)
    ) as results:
        for done in range(1, 30):
            await take(results)
            assert taken <= done + 3
            if done == 9:
                go_on.set()


async def test_closing_an_async_stream_cancels_what_is_under_way(
    async_client: AsyncClient, seen: Seen
) -> None:
    results = async_client.stream(async_client.embed_text, ["a", "WAIT"])
    await take(results)
    assert await within(asyncio.to_thread(arrived, seen, 2), WAIT_S)
    await within(results.aclose())
    assert await within(asyncio.to_thread(seen.cancelled.wait, WAIT_S), WAIT_S)


async def test_closing_the_client_is_an_error_of_its_calls(address: str, seen: Seen) -> None:
    client = AsyncClient(address, token="")

    async def take_all(results: AsyncIterator[Any]) -> None:
        async for _ in results:
            raise AssertionError("nothing is answered")

    waiting = [
        asyncio.ensure_future(client.embed_text("WAIT")),
        asyncio.ensure_future(take_all(client.stream(client.embed_text, ["WAIT"]))),
        asyncio.ensure_future(take_all(client.stream_infer("wait", [{"x": np.zeros(1)}]))),
    ]
    assert await asyncio.to_thread(arrived, seen, 3)
    await within(client.close())
    for found in await within(asyncio.gather(*waiting, return_exceptions=True)):
        assert isinstance(found, errors.Cancelled), repr(found)


async def exhaust(results: AsyncIterator[Any]) -> None:
    async for _ in results:
        pass


async def test_a_closed_client_does_not_open_another_connection(async_client: AsyncClient) -> None:
    results = async_client.stream(async_client.embed_text, itertools.repeat("a"), at_once=1)
    await take(results)
    await within(async_client.close())
    with pytest.raises((ValueError, errors.Cancelled)):
        await within(exhaust(results))
    with pytest.raises(ValueError, match="the client is closed"):
        await within(async_client.embed_text("a"))


async def test_who_is_cancelled_himself_is_cancelled(async_client: AsyncClient, seen: Seen) -> None:
    waiting = asyncio.ensure_future(async_client.embed_text("WAIT"))
    assert await asyncio.to_thread(arrived, seen, 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(waiting)
