"""A mesh in this process, tensors included, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from sensorium import AsyncClient, Client
from sensorium.oip.v2.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server

from tests.clients.inference_in_process import Inference
from tests.clients.mesh_in_process import Seen, start


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def address(seen: Seen) -> Iterator[str]:
    server, address = start(
        seen, register=lambda server: add_GRPCInferenceServiceServicer_to_server(Inference(seen), server)
    )
    yield address
    seen.cancelled.set()
    server.stop(None).wait(10)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, token="secret", timeout_s=20) as client:
        yield client


@pytest.fixture
async def async_client(address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address, token="secret", timeout_s=20) as client:
        yield client
