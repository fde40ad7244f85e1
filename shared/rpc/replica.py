"""What this process is at the moment: its service, models, limits, and whether it drains; and who wants to
hear of it.

The gateway watches it through ReplicaService, health checks are answered from it. Loading models and draining
are done elsewhere, and said here. All of it runs on the event loop; nothing is thread-safe.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import grpc
from sensorium.mesh.v1 import replica_service_pb2 as pb
from sensorium.mesh.v1 import replica_service_pb2_grpc as pb_grpc
from sensorium.types.v1 import limits_pb2

from shared.rpc.metadata import read_version

# At least so often a watcher hears something, so that it can tell a quiet replica from a lost one.
HEARTBEAT_S = 10.0


class Replica:
    """The observable state of this process.

    It is ready while it does not drain and has a model ready, or knows of no model at all: a service that
    loads models says so with `set_models` before it starts to listen.
    """

    def __init__(
        self, service: str, *, limits: Sequence[limits_pb2.RpcLimits] = (), server_version: str | None = None
    ) -> None:
        self.service = service
        self.instance_id = os.urandom(8).hex()
        self.server_version = read_version() if server_version is None else server_version
        self.limits = list(limits)
        self.models: list[pb.ModelStatus] = []
        self.draining = False
        self.closed = False
        # Replaced at every change; the old one is set. Whoever waits on it wakes, and sees the newest state
        # only.
        self._changed = asyncio.Event()
        self._watchers = 0

    @property
    def ready(self) -> bool:
        """Whether calls are answered."""
        if self.draining or self.closed:
            return False
        return not self.models or any(model.state == pb.ModelStatus.STATE_READY for model in self.models)

    @property
    def watchers(self) -> int:
        """How many are told of changes at the moment."""
        return self._watchers

    def set_models(self, models: Sequence[pb.ModelStatus]) -> None:
        """Replaces what is known of the models."""
        self.models = list(models)
        self._announce()

    def set_limits(self, limits: Sequence[limits_pb2.RpcLimits]) -> None:
        """Replaces the bounds of the rpcs."""
        self.limits = list(limits)
        self._announce()

    def set_draining(self) -> None:
        """From now on it takes nothing new; there is no way back."""
        self.draining = True
        self._announce()

    def close(self) -> None:
        """Ends every watch; the last thing that happens to it."""
        self.closed = True
        self._announce()

    def get_model_ready(self, name: str) -> bool | None:
        """Whether a model answers, by `<model>` or `<service>/<model>`; None if no such model is known."""
        bare = name.removeprefix(f"{self.service}/")
        states = [model.state for model in self.models if model.name == bare]
        if not states:
            return None
        return pb.ModelStatus.STATE_READY in states and not self.draining and not self.closed

    def get_snapshot(self) -> pb.StreamingWatchReplicaResponse:
        """The whole state as the gateway gets it."""
        return pb.StreamingWatchReplicaResponse(
            service=self.service,
            draining=self.draining,
            models=self.models,
            limits=self.limits,
            server_version=self.server_version,
            instance_id=self.instance_id,
        )

    async def changes(self, heartbeat_s: float | None = None) -> AsyncGenerator[None, None]:
        """Yields at once, then after every change (several at a time count as one), and after `heartbeat_s`
        of silence; ends when the replica is closed.
        """
        self._watchers += 1
        try:
            while True:
                # Taken before the yield: a change during it is not missed.
                changed = self._changed
                yield
                if self.closed:
                    return
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._watchers -= 1

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class ReplicaServicer(pb_grpc.ReplicaServiceServicer):
    """Tells the gateway what this replica is, and goes on telling."""

    def __init__(self, replica: Replica, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._replica = replica
        self._heartbeat_s = heartbeat_s

    async def StreamingWatchReplica(
        self,
        request: pb.StreamingWatchReplicaRequest,
        context: grpc.aio.ServicerContext[pb.StreamingWatchReplicaRequest, pb.StreamingWatchReplicaResponse],
    ) -> AsyncIterator[pb.StreamingWatchReplicaResponse]:
        """One snapshot now, then one after every change or ten quiet seconds, until the server stops."""
        async with aclosing(self._replica.changes(self._heartbeat_s)) as changes:
            async for _ in changes:
                yield self._replica.get_snapshot()
