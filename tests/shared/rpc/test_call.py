"""One call: how it is answered, and with which status it ends, whatever its handler does."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from shared.errors import InvalidArgument, Unavailable
from shared.rpc.deadline import current_deadline, current_request_id
from shared.rpc.report import current_report
from tests.support.serving import get_details, get_status, serving
from tests.support.stub import SERVICE, call, echo, get_method, stub
from tests.support.waiting import take, within


def in_ms(seconds: float) -> str:
    return str(int((time.time() + seconds) * 1000))


async def test_a_call_is_answered(front: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        assert await within(call(up.channel, "Echo", b"hello")) == b"hello"


async def test_our_errors_arrive_with_their_details(front: str) -> None:
    async def refuse(request: BytesValue, context: Any) -> BytesValue:
        raise InvalidArgument("value", expected="1 byte", got="ö ☃ %", fix="send one")

    async with serving(stub(Refuse=refuse), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Refuse"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "value: expected 1 byte, got ö ☃ %; send one"
    status = get_status(caught.value)
    assert status.message == caught.value.details()
    assert get_details(status)["BadRequest"].field_violations[0].field == "value"


async def test_an_unknown_error_does_not_leak(front: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(request: BytesValue, context: Any) -> BytesValue:
        raise RuntimeError("the password is swordfish")

    async with serving(stub(Fail=fail, Echo=echo), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Fail", metadata=(("x-request-id", "r-17"),)))
        assert await within(call(up.channel, "Echo", b"alive")) == b"alive"
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error; report it with request id r-17"
    assert "swordfish" not in repr(get_status(caught.value))


async def test_a_reply_of_the_wrong_type_does_not_leak(front: str) -> None:
    async def lie(request: BytesValue, context: Any) -> Any:
        return "swordfish"

    async with serving(stub(Lie=lie), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Lie"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "swordfish" not in str(caught.value.details())


async def test_bytes_that_are_no_message_are_the_callers_error(front: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        raw = up.channel.unary_unary(f"/{SERVICE}/Echo")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(raw(b"\xff\xff\xff", timeout=10))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected a message of the request type" in str(caught.value.details())


@pytest.mark.parametrize("size", [1001, 1_000_000])
async def test_a_message_over_the_limit_is_refused(front: str, size: int) -> None:
    async with serving(stub(Echo=echo), front=front, max_message_bytes=1000) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Echo", b"x" * size))
        assert await within(call(up.channel, "Echo", b"x" * 900)) == b"x" * 900
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    if size == 1001:
        assert "the limit is 1000 bytes; send fewer or smaller items" in str(caught.value.details())
        assert "QuotaFailure" in get_details(get_status(caught.value))


async def test_large_messages_pass(front: str) -> None:
    large = bytes(8 * 1024 * 1024)
    async with serving(stub(Echo=echo), front=front) as up:
        assert await within(call(up.channel, "Echo", large)) == large


async def test_an_abort_of_the_handlers_own_passes(front: str) -> None:
    async def abort(request: BytesValue, context: Any) -> BytesValue:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there", (("x-more", "1"),))
        return request

    async with serving(stub(Abort=abort), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Abort"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert caught.value.details() == "there"
    assert ("x-more", "1") in tuple(caught.value.trailing_metadata())


async def test_a_code_set_by_the_handler_passes(front: str) -> None:
    async def set_code(request: BytesValue, context: Any) -> BytesValue:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")
        return request

    async with serving(stub(Set=set_code), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Set"))
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


async def test_timings_travel_in_trailers_and_survive_an_error(front: str) -> None:
    async def time_it(request: BytesValue, context: Any) -> BytesValue:
        context.set_trailing_metadata((("x-first", "1"),))
        report = current_report()
        assert report is not None
        report.add(0.25, 0.001, 0.0123456, 8, "stub/cat", "2")
        if request.value:
            raise Unavailable("it", reason="busy", retry_after_s=1)
        return request

    expected = {
        ("x-first", "1"),
        ("x-sensorium-queue", "0.250000"),
        ("x-sensorium-batch", "0.001000"),
        ("x-sensorium-compute", "0.012346"),
        ("x-sensorium-batch-size", "8"),
        ("x-sensorium-model-version", "stub/cat@2"),
    }
    async with serving(stub(Time=time_it), front=front) as up:
        running = get_method(up.channel, "Time")(BytesValue(), timeout=10)
        await within(running)
        assert expected <= set(await within(running.trailing_metadata()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Time", b"fail"))
    assert expected <= set(caught.value.trailing_metadata())
    assert get_details(get_status(caught.value))["RetryInfo"].retry_delay.seconds == 1


async def test_the_request_id_is_the_callers_or_a_new_one(front: str) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        return BytesValue(value=current_request_id().encode())

    async with serving(stub(Tell=tell), front=front) as up:
        assert await within(call(up.channel, "Tell", metadata=(("x-request-id", "abc-1"),))) == b"abc-1"
        forged = await within(call(up.channel, "Tell", metadata=(("x-request-id", 'a","level":"x'),)))
        first, second = [await within(call(up.channel, "Tell")) for _ in range(2)]
    assert b'"' not in forged
    assert len({first, second, forged}) == 3
    assert all(len(value) >= 8 for value in (first, second, forged))


async def test_the_earlier_of_both_deadlines_counts(front: str) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        return BytesValue(value=f"{current_deadline().remaining_s():.3f}".encode())

    async with serving(stub(Tell=tell), front=front, default_timeout_s=25, max_timeout_s=50) as up:

        async def ask(timeout: float | None, stamp: str | None) -> float:
            metadata = (("x-sensorium-deadline", stamp),) if stamp else None
            return float(await within(call(up.channel, "Tell", timeout=timeout, metadata=metadata)))

        assert 5 < await ask(6, None) <= 6.05
        assert 5 < await ask(9, in_ms(6)) <= 6.05
        assert 5 < await ask(6, in_ms(9)) <= 6.05
        assert 7 < await ask(None, in_ms(8)) <= 8.05
        assert 24 < await ask(None, None) <= 25
        assert 40 < await ask(None, in_ms(41)) <= 41.05
        assert 49 < await ask(500, in_ms(400)) <= 50


@pytest.mark.parametrize("stamp", ["soon", "-5", "1.5", "9" * 30])
async def test_a_stamp_that_is_no_time_is_refused(front: str, stamp: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Echo", metadata=(("x-sensorium-deadline", stamp),)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "x-sensorium-deadline: expected milliseconds" in str(caught.value.details())


async def test_a_call_that_comes_late_is_not_begun(front: str) -> None:
    begun = 0

    async def count(request: BytesValue, context: Any) -> BytesValue:
        nonlocal begun
        begun += 1
        return request

    async with serving(stub(Count=count), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Count", metadata=(("x-sensorium-deadline", in_ms(-1)),)))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert begun == 0


@pytest.mark.parametrize("how", ["stamp", "default"])
async def test_a_handler_is_cut_at_our_deadline(front: str, how: str) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def hang(request: BytesValue, context: Any) -> BytesValue:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise
        return request

    timeout_s = 0.2 if how == "default" else 20
    metadata = (("x-sensorium-deadline", in_ms(0.2)),) if how == "stamp" else None
    async with serving(stub(Hang=hang), front=front, default_timeout_s=timeout_s) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Hang", timeout=None, metadata=metadata))
        assert await within(ended) == "cancelled"
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "the deadline passed while" in str(caught.value.details())


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_handler_learns_that_its_caller_left(front: str, how: str) -> None:
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[None] = loop.create_future()
    ended: asyncio.Future[None] = loop.create_future()

    async def hang(request: BytesValue, context: Any) -> BytesValue:
        begun.set_result(None)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set_result(None)
        return request

    async with serving(stub(Hang=hang), front=front) as up:
        running = get_method(up.channel, "Hang")(BytesValue(), timeout=0.3 if how == "timeout" else 10)
        await within(begun)
        if how == "cancel":
            running.cancel()
        await within(ended)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await within(running)


async def test_streams_are_answered_and_fail_with_details(front: str) -> None:
    async def count(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        for at in range(3):
            yield BytesValue(value=b"%d" % at)
        if request.value:
            raise InvalidArgument("value", expected="nothing", got="something")

    async with serving(stub(StreamingCount=count), front=front) as up:
        method = get_method(up.channel, "StreamingCount")
        replies = [reply.value async for reply in method(BytesValue(), timeout=10)]
        assert replies == [b"0", b"1", b"2"]
        failing = aiter(method(BytesValue(value=b"x"), timeout=10))
        assert [(await take(failing)).value for _ in replies] == replies
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await take(failing)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "BadRequest" in get_details(get_status(caught.value))


async def test_a_stream_ends_when_its_caller_leaves(front: str) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def flow(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        try:
            while True:
                yield request
                await asyncio.sleep(0)
        finally:
            ended.set_result(None)

    async with serving(stub(StreamingFlow=flow), front=front) as up:
        running = get_method(up.channel, "StreamingFlow")(BytesValue(), timeout=10)
        await take(aiter(running))
        running.cancel()
        await within(ended)


async def test_methods_that_nobody_serves(front: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(up.channel, "Nothing"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_refused_request_is_freed_at_once(front: str) -> None:
    held: list[weakref.ref[Held]] = []

    async def refuse(request: BytesValue, context: Any) -> BytesValue:
        content = Held()
        held.append(weakref.ref(content))
        # A list of problems is how validation collects them: the frame names the error, and the error the frame.
        problems = [InvalidArgument("value", expected="1 byte", got=str(content))]
        try:
            raise problems[0]
        except InvalidArgument as first:
            raise ExceptionGroup("several", [first]) from first

    async def refuse_first(request: BytesValue, context: Any) -> BytesValue:
        try:
            return await refuse(request, context)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    gc.disable()
    try:
        async with serving(stub(Refuse=refuse_first, Fail=refuse), front=front) as up:
            for name in ("Refuse", "Fail"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await within(call(up.channel, name))
            # The server's side of the second call may end after its client's: another call comes behind it.
            with pytest.raises(grpc.aio.AioRpcError):
                await within(call(up.channel, "Unknown"))
            assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


class Held:
    """Stands for what a request holds."""
