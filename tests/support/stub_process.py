"""A process of ours that serves StubService: `python -m tests.support.stub_process`, settings SENSORIUM_STUB_*."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.wrappers_pb2 import BytesValue

from shared.rpc.main import run
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from shared.settings import Settings, load
from tests.support.stub import echo, stub


class StubSettings(Settings):
    """SENSORIUM_STUB_*."""

    rpc: RpcSettings = RpcSettings()


async def build() -> Server:
    """Echo answers at once; StreamingHold says that it has begun, and answers once the process drains."""
    settings = load(StubSettings, "stub")
    replica = Replica("stub")

    async def hold(request: BytesValue, context: Any) -> AsyncIterator[BytesValue]:
        yield BytesValue(value=b"begun")
        async with aclosing(replica.changes()) as changes:
            async for _ in changes:
                if replica.draining:
                    break
        yield request

    return Server(
        settings.rpc, service="stub", replica=replica, register=[stub(Echo=echo, StreamingHold=hold)]
    )


if __name__ == "__main__":
    run(build)
