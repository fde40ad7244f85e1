"""Callers that send what nobody should: it costs them their call, and nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.gateway.support.running import MESH, Gateway
from tests.gateway.support.toy import SERVICE, SayRequest, SayResponse, toy
from tests.gateway.support.toy import say as answer
from tests.support.waiting import within


def ask(gateway: Gateway, path: str, opened: grpc.aio.Channel, timeout: float = 10.0) -> Any:
    call = opened.unary_unary(
        path, request_serializer=SayRequest.SerializeToString, response_deserializer=SayResponse.FromString
    )
    metadata = tuple(gateway.headers("toy").items())
    return call(SayRequest(text="hi"), metadata=metadata, timeout=timeout)


@pytest.mark.parametrize("query", ["?a=b", '?{}|^`"<>', "?"])
async def test_a_query_does_not_reach_the_replica(gateway: Gateway, query: str) -> None:
    async with gateway.replica(), gateway.channel() as opened:
        await within(ask(gateway, f"/{SERVICE}/Say{query}", opened))


async def test_an_authority_that_a_replica_cannot_read_does_not_reach_it(gateway: Gateway) -> None:
    options = (("grpc.default_authority", "%zz"),)
    async with gateway.replica(), grpc.aio.insecure_channel(gateway.address, options=options) as opened:
        await within(ask(gateway, f"/{SERVICE}/Say", opened))


async def test_many_cancelled_calls_do_not_cost_the_others_on_the_connection(gateway: Gateway) -> None:
    arrived = asyncio.Semaphore(0)
    over = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        arrived.release()
        await over.wait()
        return await answer(request, context)

    async with gateway.replica(register=[toy(hang)]), gateway.channel() as opened:
        patient = ask(gateway, f"/{SERVICE}/Say", opened)
        await within(arrived.acquire())
        for _ in range(15):
            hasty = [ask(gateway, f"/{SERVICE}/Say", opened) for _ in range(40)]
            for _ in hasty:
                await within(arrived.acquire())
            for one in hasty:
                one.cancel()
        over.set()
        await within(patient)


async def test_a_message_that_never_ends_is_not_waited_for(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway(MESH.replace("{default_s: 20, max_s: 30}", "{default_s: 1, max_s: 1}"))
    gateway.start()
    host, port = gateway.address.split(":")
    reader, writer = await within(asyncio.open_connection(host, int(port)))
    token = gateway.headers("toy")["authorization"]
    lines = (
        "POST /v1/toys:say HTTP/1.1",
        "host: x",
        f"authorization: {token}",
        "content-length: 1000",
        "",
        "{",
    )
    writer.write("\r\n".join(lines).encode())
    answer = await within(reader.readline())
    writer.close()
    assert answer.split()[1] in (b"408", b"504")
