"""Calls with tensors, alone and as streams, against a real servicer."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from sensorium import AsyncClient, Client, Tensor, errors

from tests.clients.mesh_in_process import Seen
from tests.support.waiting import take, within

WAIT_S = 20
Inputs = Mapping[str, np.ndarray]


def numbered(count: int | None = None) -> Iterator[Inputs]:
    numbers = itertools.count() if count is None else range(count)
    return ({"x": np.array([[number]])} for number in numbers)


def test_arrays_go_in_and_come_out(client: Client, seen: Seen) -> None:
    image, names = np.random.default_rng(0).random((2, 3, 4), np.float32), np.array(["a", "bc"])
    answer = client.infer("echo", {"image": image, "names": names}, version="3")
    np.testing.assert_array_equal(answer["image"], image)
    assert answer["names"].tolist() == [b"a", b"bc"]
    assert (answer.model.name, answer.model.version) == ("echo", "3")
    (request,) = seen.requests
    assert [tensor.datatype for tensor in request.inputs] == ["FP32", "BYTES"]
    assert list(client.infer("echo", {"image": image, "names": names}, ["names"])) == ["names"]
    assert client.infer("echo", {"x": Tensor("INT8", (1,), b"\7")}).tensors["x"].content == b"\7"


async def test_the_async_client_does_likewise(async_client: AsyncClient) -> None:
    answer = await within(async_client.infer("echo", {"x": np.arange(3)}))
    assert answer["x"].tolist() == [0, 1, 2]
    found = [answer["x"].item() async for answer in async_client.stream_infer("echo", numbered(20))]
    assert found == list(range(20))


async def test_a_mesh_that_says_nothing_of_a_message_is_given_up(
    client: Client, async_client: AsyncClient, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensorium.stream.GRACE_S", 0.1)
    monkeypatch.setattr("sensorium.aio_stream.GRACE_S", 0.1)
    with pytest.raises(errors.DeadlineExceeded, match="said nothing of a message"):
        next(client.stream_infer("wait", numbered(), timeout_s=0.2))
    assert seen.cancelled.wait(WAIT_S)
    seen.cancelled.clear()
    with pytest.raises(errors.DeadlineExceeded, match="said nothing of a message"):
        await take(async_client.stream_infer("wait", numbered(), timeout_s=0.2))


def test_only_the_wait_for_answers_is_limited(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.stream.GRACE_S", 0.1)
    go_on = threading.Event()

    def source() -> Iterator[Inputs]:
        for number in range(3):
            yield {"x": np.array([number])}
            assert not go_on.wait(0.5)

    found = [answer["x"].item() for answer in client.stream_infer("echo", source(), timeout_s=0.2)]
    assert found == [0, 1, 2]


def test_what_is_wrong_with_an_input_is_said(client: Client) -> None:
    with pytest.raises(
        TypeError, match=r"inputs\['x'\]: expected a numpy array or a sensorium.Tensor, got list"
    ):
        client.infer("echo", {"x": [1, 2]})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="inputs: expected arrays by name, got ndarray"):
        client.infer("echo", np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="outputs: expected a list of names, got one text"):
        client.infer("echo", {"x": np.zeros(1)}, "x")
    with pytest.raises(errors.NotFound):
        client.infer("missing", {"x": np.zeros(1)})
    with pytest.raises(errors.Internal, match="expected 1, one per output, got 0"):
        client.infer("short", {"x": np.zeros(1)})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"version": 1}, "version: expected a str, got int"),
        ({"model": None}, "model: expected a str, got NoneType"),
        ({"inputs": {3: np.zeros(1)}}, "inputs: names: expected a str, got int"),
        ({"timeout_s": "5"}, "timeout_s: expected a number of seconds, got '5'"),
    ],
)
def test_an_argument_of_another_type_is_named(client: Client, given: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        client.infer(**{"model": "echo", "inputs": {"x": np.zeros(1)}, **given})


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e300, 10**12])
async def test_a_timeout_without_an_end_is_none(
    client: Client, async_client: AsyncClient, timeout_s: float
) -> None:
    assert client.infer("echo", {"x": np.zeros(1)}, timeout_s=timeout_s)["x"].tolist() == [0]
    (answer,) = client.stream_infer("echo", numbered(1), timeout_s=timeout_s)
    assert answer["x"].item() == 0
    (result,) = client.stream(client.embed_text, ["a"], timeout_s=timeout_s)
    assert result.error is None
    answer = await within(async_client.infer("echo", {"x": np.zeros(1)}, timeout_s=timeout_s))
    assert answer["x"].tolist() == [0]


def test_no_number_is_no_timeout(client: Client) -> None:
    with pytest.raises(ValueError, match="timeout_s: expected a number of seconds, got nan"):
        client.infer("echo", {"x": np.zeros(1)}, timeout_s=float("nan"))
    with pytest.raises(ValueError, match="timeout_s: expected a number of seconds, got nan"):
        client.stream(client.embed_text, ["a"], timeout_s=float("nan"))
    with pytest.raises(ValueError, match="timeout_s: expected a number of seconds, got nan"):
        client.stream_infer("echo", numbered(1), timeout_s=float("nan"))


def test_a_stream_answers_in_order_over_one_call(client: Client, seen: Seen) -> None:
    answers = list(client.stream_infer("echo", numbered(50), timeout_s=3))
    assert [answer["x"].item() for answer in answers] == list(range(50))
    assert {request.parameters["timeout"].int64_param for request in seen.requests} == {3_000_000}
    assert {metadata["authorization"] for metadata in seen.metadata} == {"Bearer secret"}


def test_a_message_that_fails_does_not_end_the_stream(client: Client) -> None:
    one, empty, other = client.stream_infer("echo", [{"x": np.ones(1)}, {}, {"x": np.zeros(1)}])
    assert (one["x"].item(), other["x"].item()) == (1.0, 0.0)
    assert str(empty.error) == "UNKNOWN: inputs: expected tensors, got none"
    assert len(empty) == 0
    surrogate = np.array(["\ud800"])
    (unreadable,) = client.stream_infer("echo", [{"x": surrogate}])
    assert isinstance(unreadable.error, errors.InvalidArgument)


def test_a_bounded_number_of_messages_is_under_way(client: Client) -> None:
    taken = 0

    def source() -> Iterator[Inputs]:
        nonlocal taken
        for inputs in numbered():
            taken += 1
            yield inputs

    answers = client.stream_infer("echo", source(), at_once=3)
    for done, _ in enumerate(itertools.islice(answers, 50), 1):
        assert taken <= done + 3
    answers.close()


def test_answers_do_not_wait_for_the_inputs_after_them(client: Client) -> None:
    go_on = threading.Event()

    def source() -> Iterator[Inputs]:
        yield {"x": np.array(1)}
        assert go_on.wait(WAIT_S)
        yield {"x": np.array(2)}

    answers = client.stream_infer("echo", source())
    assert next(answers)["x"] == 1
    go_on.set()
    assert [answer["x"].item() for answer in answers] == [2]


def endless(before: int) -> Iterator[Inputs]:
    """Some inputs, and then a long wait for the next."""
    yield from numbered(before)
    threading.Event().wait(WAIT_S)


@pytest.mark.parametrize(("model", "kind"), [("dies", errors.Internal), ("one", errors.Unavailable)])
def test_a_stream_that_ends_before_its_inputs_says_so_at_once(
    client: Client, model: str, kind: type[Exception]
) -> None:
    answers = client.stream_infer(model, endless(1))
    assert next(answers)["x"] == 0
    with pytest.raises(kind):
        next(answers)
    answers = client.stream_infer(model, numbered(30))
    assert next(answers)["x"] == 0
    with pytest.raises(kind):
        list(answers)


@pytest.mark.parametrize(("model", "kind"), [("dies", errors.Internal), ("one", errors.Unavailable)])
async def test_an_async_stream_likewise(async_client: AsyncClient, model: str, kind: type[Exception]) -> None:
    async def waiting() -> AsyncIterator[Inputs]:
        for inputs in numbered(1):
            yield inputs
        await asyncio.sleep(WAIT_S)

    answers = async_client.stream_infer(model, waiting())
    assert (await take(answers))["x"] == 0
    with pytest.raises(kind):
        await take(answers)
    answers = async_client.stream_infer(model, numbered(30))
    assert (await take(answers))["x"] == 0
    # grpc.aio forgets what the mesh said where it finds the stream ended while it writes.
    with pytest.raises((kind, errors.Unavailable)):
        await take(answers)


async def test_what_the_inputs_raise_is_raised(client: Client, async_client: AsyncClient) -> None:
    def source() -> Iterator[Inputs]:
        yield from numbered(2)
        raise LookupError("the source is dry")

    answers = client.stream_infer("echo", source())
    assert [next(answers)["x"].item(), next(answers)["x"].item()] == [0, 1]
    with pytest.raises(LookupError, match="dry"):
        next(answers)
    stream = async_client.stream_infer("echo", source())
    assert [(await take(stream))["x"].item(), (await take(stream))["x"].item()] == [0, 1]
    with pytest.raises(LookupError, match="dry"):
        await take(stream)


async def test_closing_cancels_the_call(address: str, client: Client, seen: Seen) -> None:
    answers = client.stream_infer("echo", numbered())
    next(answers)
    answers.close()
    assert await asyncio.to_thread(seen.cancelled.wait, WAIT_S)
    seen.cancelled.clear()
    async with AsyncClient(address, token="") as other:
        stream = other.stream_infer("echo", numbered())
        await take(stream)
        await within(stream.aclose())
        assert await within(asyncio.to_thread(seen.cancelled.wait, WAIT_S), WAIT_S)
