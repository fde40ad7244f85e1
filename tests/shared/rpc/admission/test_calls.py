"""Admission of real calls, on both fronts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from shared.rpc.caller import PRINCIPAL_HEADER, PRIORITY_HEADER
from shared.rpc.report import current_report
from tests.support.serving import Serving, get_details, get_status, serving
from tests.support.stub import call, stub
from tests.support.waiting import within

PUSHBACK = {"native": "x-sensorium-retry-pushback-ms", "grpcio": "grpc-retry-pushback-ms"}
Metadata = tuple[tuple[str, str], ...]
HOLD = ("x-hold", "yes")


@dataclass
class Model:
    """A stub's model: a call is answered at once with a report of `queue_s` and `compute_s`, or held until `release`."""

    queue_s: float = 0.0
    compute_s: float = 0.0
    held: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def infer(self, request: BytesValue, context: Any) -> BytesValue:
        if HOLD in tuple(context.invocation_metadata()):
            async with self.arrived:
                self.held += 1
                self.arrived.notify_all()
            await self.release.wait()
        report = current_report()
        assert report is not None
        report.add(self.queue_s, 0.0, self.compute_s, 1, "stub/model", "1")
        return request

    async def hold(
        self, up: Serving, calls: int, value: bytes = b"", metadata: Metadata = (), timeout: float = 10.0
    ) -> list[asyncio.Task[bytes]]:
        """Starts calls that are held, and waits until they are."""
        options = {"metadata": (*metadata, HOLD), "timeout": timeout}
        tasks = [asyncio.create_task(call(up.channel, "Infer", value, **options)) for _ in range(calls)]
        await within(self._wait_held(calls))
        return tasks

    async def hold_all(self, up: Serving, calls: int, metadata: Metadata) -> list[asyncio.Task[bytes]]:
        """As `hold`, one call after another; those that are refused are made again."""
        tasks: list[asyncio.Task[bytes]] = []
        while self.held < calls:
            task = asyncio.create_task(call(up.channel, "Infer", metadata=(*metadata, HOLD)))
            held = asyncio.create_task(self._wait_held(len(tasks) + 1))
            done, _ = await asyncio.wait((task, held), return_when=asyncio.FIRST_COMPLETED)
            held.cancel()
            if task in done:
                assert isinstance(task.exception(), grpc.aio.AioRpcError)
            else:
                tasks.append(task)
        return tasks

    async def _wait_held(self, calls: int) -> None:
        async with self.arrived:
            await self.arrived.wait_for(lambda: self.held >= calls)


@asynccontextmanager
async def up(front: str, model: Model, **admission: Any) -> AsyncIterator[Serving]:
    async with serving(stub(Infer=model.infer), front=front, admission=admission) as running:
        yield running
        model.release.set()
        assert running.server.admission.in_flight == 0
        assert running.server.admission.bytes_in_flight == 0


async def refusal(running: Serving, **options: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(call(running.channel, "Infer", **options))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value


def by(principal: str, **more: str) -> Metadata:
    return ((PRINCIPAL_HEADER, principal), *more.items())


async def test_a_refusal_says_what_is_full_and_when_to_come_back(front: str) -> None:
    model = Model()
    async with up(front, model, max_in_flight=1) as running:
        held = await model.hold(running, 1)
        error = await refusal(running)
        model.release.set()
        await within(asyncio.gather(*held))
        await within(call(running.channel, "Infer"))
    details = get_details(get_status(error))
    assert details["ErrorInfo"].reason == "OVERLOADED"
    assert "calls in flight on this replica" in details["QuotaFailure"].violations[0].subject
    retry_ms = details["RetryInfo"].retry_delay.ToMilliseconds()
    assert retry_ms > 0
    assert dict(error.trailing_metadata())[PUSHBACK[front]] == str(retry_ms)


async def test_messages_in_flight_are_bounded_in_bytes(front: str) -> None:
    model = Model()
    async with up(front, model, max_bytes_in_flight=10_000) as running:
        held = await model.hold(running, 1, bytes(9_000))
        error = await refusal(running, value=bytes(5_000))
        assert "request messages in flight" in str(error.details())
        await within(call(running.channel, "Infer", bytes(500)))
        model.release.set()
        await within(asyncio.gather(*held))
        await within(call(running.channel, "Infer", bytes(5_000)))


@pytest.mark.parametrize("end", ["cancel", "deadline"])
async def test_a_permit_comes_back_from_a_caller_who_left(front: str, end: str) -> None:
    model = Model()
    async with up(front, model, max_in_flight=1) as running:
        for _ in range(3):
            model.held = 0
            held = await model.hold(running, 1, timeout=10.0 if end == "cancel" else 0.2)
            if end == "cancel":
                held[0].cancel()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
                await within(held[0])
            await within(answered(running))


async def answered(running: Serving) -> None:
    """Calls until the place of one who left is free, which the server learns a moment later."""
    while await code_of(running) is not grpc.StatusCode.OK:
        pass


async def until_refused(running: Serving, metadata: Metadata) -> None:
    while await code_of(running, metadata) is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        pass


async def code_of(running: Serving, metadata: Metadata = ()) -> grpc.StatusCode:
    try:
        await call(running.channel, "Infer", metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_a_principal_who_has_used_up_his_seconds_is_refused_and_others_are_not(front: str) -> None:
    model = Model(compute_s=0.5)
    budget = {"compute_s_per_s": 0.01, "burst_s": 0.4}
    async with up(front, model, principal=budget) as running:
        await within(call(running.channel, "Infer", metadata=by("alice")))
        error = await refusal(running, metadata=by("alice"))
        await within(call(running.channel, "Infer", metadata=by("bob")))
    details = get_details(get_status(error))
    assert details["ErrorInfo"].reason == "PRINCIPAL_BUDGET"
    assert 8 < details["RetryInfo"].retry_delay.ToMilliseconds() / 1000 < 11


async def test_a_principal_has_so_many_calls_at_a_time(front: str) -> None:
    model = Model()
    async with up(front, model, principal={"max_in_flight": 2}) as running:
        held = await model.hold(running, 2, metadata=by("alice"))
        assert "principal alice" in str((await refusal(running, metadata=by("alice"))).details())
        await within(call(running.channel, "Infer", metadata=by("bob")))
        model.release.set()
        await within(asyncio.gather(*held))


async def test_a_queue_that_is_too_long_refuses_batch_and_the_noisy_and_lets_the_quiet_in(front: str) -> None:
    model = Model(queue_s=5.0)
    async with up(front, model, min_in_flight=2, max_queue_wait_s=0.001) as running:
        held = await model.hold(running, 4, metadata=by("noisy"))
        # Each answer says that it waited for 5 s.
        await within(until_refused(running, by("noisy")))
        assert "OVERLOADED" in str(get_details(get_status(await refusal(running, metadata=by("noisy")))))
        await refusal(running, metadata=by("quiet", **{PRIORITY_HEADER: "batch"}))
        await refusal(running, metadata=by("noisy", **{PRIORITY_HEADER: "batch"}))
        model.release.set()
        await within(asyncio.gather(*held))
        model.release.clear()
        model.held = 0
        (limit,) = running.server.admission.doors[0].limits.values()
        held = await within(model.hold_all(running, limit.bound, by("noisy")))
        await refusal(running, metadata=by("noisy"))
        await within(call(running.channel, "Infer", metadata=by("quiet")))
        model.release.set()
        await within(asyncio.gather(*held))


async def test_64_callers_of_a_model_are_not_refused_by_default(front: str) -> None:
    model = Model(queue_s=5.0)

    async def caller(running: Serving) -> None:
        for _ in range(20):
            await call(running.channel, "Infer", timeout=30.0)

    async with up(front, model) as running:
        await within(asyncio.gather(*(caller(running) for _ in range(64))))
        assert all(not door.refused for door in running.server.admission.doors)
