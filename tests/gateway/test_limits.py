"""How much one caller may ask for: calls a second, bytes, time."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.gateway.support.running import MESH, SMALL_HEAP, Gateway, eventually, say
from tests.gateway.support.toy import SayResponse, toy
from tests.support.serving import get_details, get_status
from tests.support.waiting import within


async def count_allowed(gateway: Gateway, calls: int, **who: Any) -> int:
    answers = [
        await gateway.http("GET", "/v1/models", headers=gateway.headers("mesh", **who)) for _ in range(calls)
    ]
    for answer in answers:
        if answer.status_code != 200:
            assert answer.status_code == 429
            assert answer.json()["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            assert answer.json()["details"][0]["reason"] == "RATE_LIMITED"
            assert answer.headers["retry-after"] == "1"
    return [answer.status_code for answer in answers].count(200)


async def test_each_client_has_a_bucket_of_its_tier(gateway: Gateway) -> None:
    assert await count_allowed(gateway, 6, subject="ana", tier="slow") in (3, 4)
    assert await count_allowed(gateway, 3, subject="ben", tier="slow") == 3
    # Of no tier that the file lists: the default one.
    assert await count_allowed(gateway, 6, subject="ana", tier="unheard-of") == 6


async def test_more_clients_than_envoy_remembers_by_itself(gateway: Gateway) -> None:
    for _ in range(2):
        clients = [gateway.headers("mesh", subject=f"client-{n}", tier="slow") for n in range(40)]
        for headers in clients:
            await gateway.http("GET", "/v1/models", headers=headers)
    # Three were allowed at once, two are used up; a bucket that was dropped in between would be full again.
    headers = gateway.headers("mesh", subject="client-0", tier="slow")
    codes = [(await gateway.http("GET", "/v1/models", headers=headers)).status_code for _ in range(4)]
    assert 429 in codes


async def test_a_limited_grpc_call_says_when_to_come_back(gateway: Gateway) -> None:
    metadata = gateway.metadata("toy", subject="hasty", tier="slow")
    for _ in range(20):
        try:
            await say(gateway, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                details = get_details(get_status(error))
                assert details["RetryInfo"].retry_delay.seconds == 1
                assert details["QuotaFailure"].violations
                return
    pytest.fail("20 calls at once were let through at 1 a second")


async def test_health_without_a_token_is_limited_by_address(new_gateway: Any) -> None:
    gateway = new_gateway(mesh=MESH.replace("  tiers:", "  anonymous: {per_s: 1, burst: 5}\n  tiers:"))
    gateway.start()
    codes = []
    for _ in range(8):
        try:
            await gateway.health()
            codes.append(grpc.StatusCode.OK)
        except grpc.aio.AioRpcError as error:
            codes.append(error.code())
    assert codes[:5] == [grpc.StatusCode.OK] * 5
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_messages_up_to_the_limit_pass_and_larger_ones_are_named(gateway: Gateway) -> None:
    limit = 4 << 20
    async with gateway.replica():
        assert len((await say(gateway, text="x" * (limit - 100))).text) == limit - 100
        for size in (limit + 100, 3 * limit):
            with pytest.raises(grpc.aio.AioRpcError, match="larger than 4 MiB") as caught:
                await say(gateway, text="x" * size)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert get_details(get_status(caught.value))["ErrorInfo"].reason == "MESSAGE_TOO_LARGE"


async def test_many_large_messages_at_a_time(gateway: Gateway) -> None:
    async with gateway.replica():
        answers = await within(asyncio.gather(*(say(gateway, text="x" * (2 << 20)) for _ in range(12))), 30)
    assert {len(answer.text) for answer in answers} == {2 << 20}


async def test_calls_are_refused_before_memory_is_full(new_gateway: Any) -> None:
    go_on = asyncio.Event()

    async def hold(request: Any, context: Any) -> Any:
        if request.text:
            await go_on.wait()
        return SayResponse(text="ok")

    gateway = new_gateway(mesh=SMALL_HEAP)
    gateway.start()
    async with gateway.replica(register=[toy(hold)]):
        held: list[asyncio.Task[Any]] = []

        async def refused() -> bool:
            try:
                await say(gateway)
            except grpc.aio.AioRpcError as error:
                return get_details(get_status(error))["ErrorInfo"].reason == "OVERLOADED"
            return False

        while not await refused():
            assert len(held) < 40
            held.append(asyncio.create_task(say(gateway, text="x" * (5 << 20), timeout=30)))
            # Envoy looks at its memory four times a second; none of the held ones may end meanwhile.
            done, _ = await asyncio.wait(held, timeout=0.3)
            assert not done
        answer = await gateway.http("POST", "/v1/toys:say", json={})
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (429, "OVERLOADED")
        go_on.set()
        for answered in await within(asyncio.gather(*held)):
            assert answered.text == "ok"

        async def relieved() -> bool:
            return not await refused()

        await eventually(relieved, "calls are taken again")


async def test_who_names_no_timeout_gets_the_default(new_gateway: Any) -> None:
    async def never(request: Any, context: Any) -> Any:
        await asyncio.sleep(60)

    gateway = new_gateway(mesh=MESH.replace("default_s: 20", "default_s: 0.3"))
    gateway.start()
    async with gateway.replica(register=[toy(never)]):
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(say(gateway, timeout=None))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert loop.time() - before_s < 3


async def test_a_page_of_an_allowed_origin_may_call(new_gateway: Any) -> None:
    gateway = new_gateway(mesh=MESH + "cors_origins: ['https://app.example.com']\n")
    gateway.start()
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for origin, allowed in (("https://app.example.com", True), ("https://evil.example.com", False)):
        answer = await gateway.http("OPTIONS", "/v1/toys:say", headers={"origin": origin, **asked})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
