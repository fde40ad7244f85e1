"""Whether the replicas of the mesh that runs from a state folder have taken a version up; they find it by themselves."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc

from cli.registry.progress import Watcher
from cli.up.endpoints import read_endpoints
from cli.up.lock import find_owner

# Replicas look at their folder every two seconds; loading takes some more.
_FOLLOW_S = 60.0


@dataclass(frozen=True)
class Follower:
    """A replica and how it stands to a version; reason says why it does not serve it, "" where it does."""

    name: str
    reason: str


def wait_followed(state: Path, service: str, model: str, version: str, watcher: Watcher) -> list[Follower]:
    """Every replica of a service on this machine, once it serves a version or has refused it; none where no mesh runs."""
    if find_owner(state) is None:
        return []
    watcher.note("waiting for the replicas that run here")
    ends_s = time.monotonic() + _FOLLOW_S
    found = {
        name: address
        for name, address in sorted(read_endpoints(state).items())
        if name.rpartition("-")[0] == service
    }
    with ThreadPoolExecutor(max(len(found), 1)) as pool:
        reasons = pool.map(lambda address: _follow(address, model, version, ends_s), found.values())
        return [Follower(name, reason) for name, reason in zip(found, reasons, strict=True)]


def _follow(address: str, model: str, version: str, ends_s: float) -> str:
    statuses = replica_service_pb2.ModelStatus
    try:
        with grpc.insecure_channel(address) as channel:
            for snapshot in replica_service_pb2_grpc.ReplicaServiceStub(channel).StreamingWatchReplica(
                replica_service_pb2.StreamingWatchReplicaRequest(),
                timeout=max(ends_s - time.monotonic(), 0.1),
            ):
                for found in snapshot.models:
                    if (found.name, found.version) == (
                        model,
                        version,
                    ) and found.state != statuses.STATE_LOADING:
                        return "" if found.state == statuses.STATE_READY else found.reason
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"it was lost: {error.details()}"
    return f"it has not taken it up within {_FOLLOW_S:.0f} s; `sensorium status` shows what it serves"
