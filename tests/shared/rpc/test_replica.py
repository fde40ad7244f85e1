"""What a replica says of itself to whoever watches it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc
from sensorium.mesh.v1.replica_service_pb2 import ModelStatus

from shared.rpc.replica import Replica
from tests.support.serving import serving
from tests.support.waiting import take, within

READY = ModelStatus.STATE_READY


def status(name: str, state: Any, version: str = "1") -> ModelStatus:
    return ModelStatus(name=name, version=version, state=state)


async def test_the_gateway_watches_a_replica_to_its_end(front: str) -> None:
    replica = Replica("vision", server_version="9")
    async with serving(front=front, replica=replica) as up:
        stub_ = replica_service_pb2_grpc.ReplicaServiceStub(up.channel)
        heard = aiter(stub_.StreamingWatchReplica(replica_service_pb2.StreamingWatchReplicaRequest()))
        first = await take(heard)
        assert (first.service, first.draining, first.server_version) == ("vision", False, "9")
        assert first.instance_id == replica.instance_id
        replica.set_models([status("cat", READY)])
        assert [model.name for model in (await take(heard)).models] == ["cat"]
        stopping = asyncio.create_task(up.server.stop())
        last = await take(heard)
        assert last.draining

        async def read_on() -> list[bool]:
            return [message.draining async for message in heard]

        assert all(await within(read_on()))
        await within(stopping)


async def test_a_quiet_replica_is_heard_of_all_the_same() -> None:
    replica = Replica("vision")
    heard = replica.changes(heartbeat_s=0.01)
    for _ in range(3):
        await take(heard)
    await within(heard.aclose())
    assert replica.watchers == 0


async def test_several_changes_at_once_are_told_once() -> None:
    replica = Replica("vision")
    heard = replica.changes()
    await take(heard)
    for at in range(5):
        replica.set_models([status(str(at), READY)])
    await take(heard)
    with pytest.raises(TimeoutError):
        await take(heard, limit_s=0.05)
