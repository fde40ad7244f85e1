"""Streams: one reply a message in their order, errors that end nothing, bounds, deadlines, and clients who leave."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import InvalidArgument
from shared.inference.oip.message import InferMessage, InferRequest
from shared.inference.oip.stream import Stream
from shared.rpc.deadline import NEVER
from tests.shared.inference.graphs import WEIGHTS, identity, slow, write_model
from tests.shared.inference.oip.served import Oip, line, served, tensor
from tests.support.waiting import take, within

# Turns of the slow graph's loop that take some seconds.
LONG = 2**24
ENDS = grpc.aio.EOF


def message(**fields: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(**line(**fields))


def wait_message(turns: int, **fields: Any) -> pb.ModelInferRequest:
    """A message that keeps the model `slow` busy."""
    x = np.array([turns])
    return pb.ModelInferRequest(
        model_name="slow", inputs=[tensor("x", x, "INT64")], raw_input_contents=[x.tobytes()], **fields
    )


async def ask(oip: Oip, *messages: pb.ModelInferRequest, **options: Any) -> list[Any]:
    """The replies to messages that are sent all at once."""
    call = oip.stub.ModelStreamInfer(iter(messages), **{"timeout": 10.0, **options})
    return [reply async for reply in call]


async def test_replies_come_in_the_order_of_the_messages(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "slow", slow())
    async with served(tmp_path, front) as oip:
        messages = [wait_message(200_000, id="0")] + [message(rows=n, id=str(n)) for n in range(1, 8)]
        replies = await within(ask(oip, *messages))
        assert [reply.infer_response.id for reply in replies] == [str(n) for n in range(8)]
        assert not any(reply.error_message for reply in replies)
        last = replies[-1].infer_response
        np.testing.assert_array_equal(
            np.frombuffer(last.raw_output_contents[0], np.float32).reshape(7, 4), np.ones((7, 16)) @ WEIGHTS
        )
        assert all(reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies)


async def test_one_reply_comes_before_the_next_message_is_sent(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        call = oip.stub.ModelStreamInfer(timeout=10.0)
        for turn in range(5):
            await within(call.write(message(id=str(turn))))
            assert (await within(call.read())).infer_response.id == str(turn)
        await within(call.done_writing())
        assert await within(call.read()) is ENDS
        assert await within(call.code()) is grpc.StatusCode.OK


async def test_a_large_message_is_read_as_a_small_one(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "numbers", identity("FP32"))
    numbers = np.arange(50_000, dtype=np.float32)[None]
    async with served(tmp_path, front) as oip:
        sent = pb.ModelInferRequest(
            model_name="numbers", inputs=[tensor("x", numbers)], raw_input_contents=[numbers.tobytes()]
        )
        for reply in await within(ask(oip, *[sent] * 20)):
            assert reply.infer_response.raw_output_contents[0] == numbers.tobytes()


async def test_a_message_that_fails_ends_nothing(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        messages = [
            message(id="right"),
            message(id="unknown", model_name="nobody", model_version="3"),
            message(id="short", raw_input_contents=[b"1234"]),
            message(id="sequence", parameters={"sequence_id": pb.InferParameter(int64_param=1)}),
            message(
                id="last",
                parameters={"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)},
            ),
        ]
        replies = await within(ask(oip, *messages))
        assert [reply.infer_response.id for reply in replies] == [sent.id for sent in messages]
        texts = [reply.error_message for reply in replies]
        assert "no model is named" in texts[1]
        assert "raw_input_contents[0]: expected 64 bytes" in texts[2]
        assert 'parameters["sequence_id"]' in texts[3]
        assert (texts[0], texts[4]) == ("", "")
        failed = replies[1].infer_response
        assert (failed.model_name, failed.model_version) == ("nobody", "3")
        assert failed.parameters["status"].string_param == "NOT_FOUND"
        assert not failed.outputs


async def test_errors_are_the_status_where_the_client_wants_it(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        call = oip.stub.ModelStreamInfer(
            iter([message(id="right"), message(id="wrong", model_name="nobody"), message(id="late")]),
            timeout=10.0,
            metadata=[("triton_grpc_error", "true")],
        )
        assert (await within(call.read())).infer_response.id == "right"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(call.read())
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert "no model is named" in str(refused.value.details())


async def test_a_stream_that_was_opened_for_a_model_is_for_that_model(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        messages = [
            message(),
            message(model_name="test/line"),
            message(model_name="pair.sums"),
            message(model_name="nobody"),
            message(),
        ]
        replies = await within(ask(oip, *messages, metadata=[("x-sensorium-model", "test/line")]))
        texts = [reply.error_message for reply in replies]
        assert [bool(text) for text in texts] == [False, False, True, True, False]
        assert "expected the model that the stream was opened for, test/line, got pair.sums" in texts[2]


async def test_bytes_that_are_no_message_end_the_stream_after_its_replies(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        raw: Any = oip.channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        call = raw(iter([message(id="right").SerializeToString(), b"\xff\xff\xff"]), timeout=10.0)
        assert (await within(call.read())).infer_response.id == "right"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(call.read())
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_has_a_deadline_and_a_stream_may_have_one(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "slow", slow())
    async with served(tmp_path, front) as oip:
        soon = {"timeout": pb.InferParameter(int64_param=50_000)}
        replies = await within(ask(oip, wait_message(LONG, parameters=soon), message(id="next")))
        assert "the deadline passed" in replies[0].error_message
        assert replies[0].infer_response.parameters["status"].string_param == "DEADLINE_EXCEEDED"
        assert replies[1].infer_response.id == "next"
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await within(ask(oip, wait_message(LONG), timeout=0.3))
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_without_a_deadline_outlasts_that_of_its_messages(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "slow", slow())
    async with served(tmp_path, front, rpc={"default_timeout_s": 0.2}) as oip:
        call = oip.stub.ModelStreamInfer()
        # Together longer than any call without a deadline may take.
        for _ in range(3):
            await within(call.write(wait_message(LONG)))
            assert "the deadline passed" in (await within(call.read())).error_message
        await within(call.write(message(id="right")))
        assert (await within(call.read())).infer_response.id == "right"
        await within(call.done_writing())
        assert await within(call.read()) is ENDS


async def test_nothing_goes_on_for_a_client_who_left(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "slow", slow())
    async with served(tmp_path, front) as oip:
        batcher = oip.repository.graph("slow").batcher
        call = oip.stub.ModelStreamInfer(timeout=60.0)
        for _ in range(10):
            await within(call.write(wait_message(LONG)))
        async with asyncio.timeout(10):
            while not (load := batcher.load()).running or load.running + load.queued_items < 10:
                await asyncio.sleep(0)
        call.cancel()
        # The run is told to end, and those that wait are forgotten: otherwise the next would wait for minutes.
        (reply,) = await within(ask(oip, wait_message(1)))
        assert reply.error_message == ""
        assert batcher.load().running + batcher.load().queued_items == 0


async def test_clients_who_leave_at_any_time_leave_no_task(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        await within(ask(oip, message()))
        before = len(asyncio.all_tasks())
        dice = random.Random(5)

        async def leave() -> None:
            call = oip.stub.ModelStreamInfer(timeout=10.0)
            for _ in range(dice.randrange(12)):
                await call.write(message(rows=dice.randrange(1, 8)))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            call.cancel()

        for _ in range(10):
            await within(asyncio.gather(*(leave() for _ in range(20)), return_exceptions=True))
        (reply,) = await within(ask(oip, message()))
        assert reply.error_message == ""
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0)
        load = oip.repository.graph("line").batcher.load()
        assert (load.running, load.queued_items) == (0, 0)


async def test_an_open_stream_does_not_hold_up_the_drain(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "slow", slow())
    async with served(tmp_path, front, rpc={"drain_timeout_s": 60.0}) as oip:
        idle, busy = oip.stub.ModelStreamInfer(), oip.stub.ModelStreamInfer()
        for call in (idle, busy):
            await within(call.write(message()))
            await within(call.read())
        await within(busy.write(wait_message(300_000, id="begun")))
        async with asyncio.timeout(10):
            while not oip.repository.graph("slow").batcher.load().running:
                await asyncio.sleep(0)
        stopping = asyncio.create_task(oip.server.stop())
        # What was begun is answered, and then both are told to go elsewhere.
        assert (await within(busy.read())).infer_response.id == "begun"
        for call in (idle, busy):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await within(call.read())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "draining" in str(refused.value.details())
        await within(stopping)


class Desk:
    """Answers when it is told to, and knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.ended: list[str] = []

    async def answer(self, request: InferRequest) -> pb.ModelInferResponse:
        request = request.request if isinstance(request, InferMessage) else request
        self.asked.append(request.id)
        gate = self.gates.setdefault(request.id, asyncio.Event())
        try:
            await gate.wait()
        finally:
            self.ended.append(request.id)
        return pb.ModelInferResponse(id=request.id)

    def open(self, *names: str) -> None:
        for name in names:
            self.gates.setdefault(name, asyncio.Event()).set()


async def endless(size: int = 0) -> AsyncIterator[InferRequest]:
    number = 0
    while True:
        yield pb.ModelInferRequest(id=str(number), model_name="x" * size)
        number += 1


async def settle() -> None:
    """Lets all tasks run until they wait for something."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_no_more_messages_are_taken_than_there_is_room_for() -> None:
    desk = Desk()
    async with aclosing(Stream(desk.answer, NEVER, max_messages=4).serve(endless())) as replies:
        first = asyncio.ensure_future(anext(replies))
        await settle()
        assert desk.asked == ["0", "1", "2", "3"]
        # Later ones that are ready wait for their turn, and hold their room.
        desk.open("1", "2", "3")
        await settle()
        assert desk.asked == ["0", "1", "2", "3"]
        desk.open("0")
        assert (await within(first)).infer_response.id == "0"
        await settle()
        # It is on its way only when the next is asked for.
        assert len(desk.asked) == 4
        assert (await take(replies)).infer_response.id == "1"
        await settle()
        assert desk.asked[4:] == ["4"]
    assert sorted(desk.ended) == sorted(desk.asked)


async def test_no_more_bytes_are_taken_than_there_is_room_for() -> None:
    desk = Desk()
    async with aclosing(Stream(desk.answer, NEVER, max_bytes=2500).serve(endless(1000))) as replies:
        first = asyncio.ensure_future(anext(replies))
        await settle()
        assert desk.asked == ["0", "1", "2"]
        desk.open("0")
        assert (await within(first)).infer_response.id == "0"
    assert sorted(desk.ended) == sorted(desk.asked)


async def test_a_failure_while_reading_comes_after_the_replies() -> None:
    async def broken() -> AsyncIterator[InferRequest]:
        yield pb.ModelInferRequest(id="0")
        raise InvalidArgument("request", expected="a message", got="none")

    desk = Desk()
    replies = Stream(desk.answer, NEVER).serve(broken())
    first = asyncio.ensure_future(anext(replies))
    await settle()
    desk.open("0")
    assert (await within(first)).infer_response.id == "0"
    with pytest.raises(InvalidArgument):
        await take(replies)


async def test_a_client_that_does_not_take_its_replies_is_given_up() -> None:
    ended = asyncio.Event()

    async def send() -> AsyncIterator[InferRequest]:
        try:
            while True:
                yield pb.ModelInferRequest()
        finally:
            ended.set()

    async def answer(_: InferRequest) -> pb.ModelInferResponse:
        return pb.ModelInferResponse()

    async def read_one() -> None:
        async with aclosing(Stream(answer, NEVER, max_unread_s=0.05).serve(send())) as replies:
            await anext(replies)
            await asyncio.Event().wait()

    reading = asyncio.create_task(read_one())
    await within(asyncio.wait([reading]))
    assert reading.cancelled()
    await within(ended.wait())


async def test_a_client_that_sends_nothing_for_long_is_not_given_up() -> None:
    asked = asyncio.Event()

    async def send() -> AsyncIterator[InferRequest]:
        yield pb.ModelInferRequest(id="first")
        await asked.wait()
        yield pb.ModelInferRequest(id="second")

    async def answer(message: InferRequest) -> pb.ModelInferResponse:
        assert isinstance(message, pb.ModelInferRequest)
        return pb.ModelInferResponse(id=message.id)

    async with aclosing(Stream(answer, NEVER, max_unread_s=0.01).serve(send())) as replies:
        first = await take(replies)
        second = asyncio.ensure_future(anext(replies))
        asyncio.get_running_loop().call_later(0.05, asked.set)
        assert [first.infer_response.id, (await within(second)).infer_response.id] == ["first", "second"]
