"""A real server of ours in the test's own process, on either front, and a channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from shared.rpc.channel import channel
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from tests.support.waiting import within

FRONTS = ("native", "grpcio")


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """Runs the test on both fronts. Import it into the conftest.py that wants it."""
    return str(request.param)


@dataclass(frozen=True)
class Serving:
    """A running server, what it says of itself, where it is, and a channel to it."""

    server: Server
    replica: Replica
    address: str
    channel: grpc.aio.Channel


@asynccontextmanager
async def serving(
    *register: Callable[[Any], None],
    front: str = "native",
    replica: Replica | None = None,
    background: tuple[Any, ...] = (),
    **settings: Any,
) -> AsyncIterator[Serving]:
    """Serves what `register` adds on a free port until the block ends. settings: fields of RpcSettings."""
    replica = Replica("stub") if replica is None else replica
    rpc = RpcSettings(front=front, **{"drain_timeout_s": 2.0, "drain_notice_s": 0.0, **settings})
    server = Server(rpc, service=replica.service, replica=replica, register=register, background=background)
    address = await within(server.start())
    opened = channel(address, max_message_bytes=64 * 1024 * 1024)
    try:
        yield Serving(server, replica, address, opened)
    finally:
        await within(opened.close())
        await within(server.stop())


def get_status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The google.rpc.Status in the trailers of a failed call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    raise AssertionError(f"no details in the trailers of {error!r}")


def get_details(status: status_pb2.Status) -> dict[str, Any]:
    """The details of a status by the name of their message, e.g. `BadRequest`."""
    details: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        assert packed.Unpack(message)
        details[name] = message
    return details
