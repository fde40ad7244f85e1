"""Listening to replicas: one stream each, for as long as a Membership says that they are there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import grpc
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc

from gateway.discovery.membership import Insert, Membership, Settled
from gateway.discovery.roster import Report, Roster
from shared.rpc.channel import channel
from shared.telemetry.logging import get_logger

# A replica says something every 10 s; one that kept silent for two of these is lost.
_SILENCE_S = 25.0
# A replica that accepts a connection answers at once; 5 s are for a machine under load.
_FIRST_WORD_S = 5.0
# Between attempts to reach a lost replica. Doubled up to the last, and spread, so that replicas of a machine that comes
# back are not called all at once.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.1, 2.0
# How often one that does not report is asked whether it still is there.
_FOREIGN_PAUSE_S = 2.0

Endpoint = tuple[str, str]


class Watcher:
    """Keeps the roster true: one task for each membership, one for each replica."""

    def __init__(self, roster: Roster, memberships: Sequence[Membership]) -> None:
        self._roster = roster
        self._memberships = memberships
        self._watches: dict[Endpoint, asyncio.Task[None]] = {}
        # The same replica may be named by two memberships; it is there until the last one drops it.
        self._counts: dict[Endpoint, int] = {}
        # Set when the roster has everybody that was there at the start.
        self.started = asyncio.Event()

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                settled = [asyncio.Event() for _ in self._memberships]
                for membership, event in zip(self._memberships, settled, strict=True):
                    group.create_task(self._follow(membership, group, event))
                for event in settled:
                    await event.wait()
                self.started.set()
        finally:
            self._watches.clear()

    async def _follow(self, membership: Membership, group: asyncio.TaskGroup, settled: asyncio.Event) -> None:
        async for change in membership.changes():
            if isinstance(change, Settled):
                settled.set()
                continue
            endpoint = (change.service, change.endpoint)
            if isinstance(change, Insert):
                self._counts[endpoint] = self._counts.get(endpoint, 0) + 1
                if self._counts[endpoint] == 1:
                    self._roster.insert(*endpoint)
                    self._watches[endpoint] = group.create_task(self._watch(*endpoint))
                continue
            self._counts[endpoint] -= 1
            if self._counts[endpoint] == 0:
                del self._counts[endpoint]
                self._watches.pop(endpoint).cancel()
                self._roster.remove(*endpoint)

    async def _watch(self, service: str, endpoint: str) -> None:
        log = get_logger("discovery").bind(service=service, endpoint=endpoint)
        pause_s = 0.0
        while True:
            spoke = False
            try:
                async for report in _listen(endpoint):
                    if not spoke:
                        log.info(
                            "replica reached", instance=report.instance_id, version=report.server_version
                        )
                    spoke = True
                    if report.service and report.service != service:
                        raise _NotOurs(f"it is a replica of {report.service}, expected one of {service}")
                    self._roster.report(service, endpoint, report)
                reason = "it ended its watch"
            except _Foreign:
                # A gRPC server that is none of ours: it has no models to report, its health is Envoy's to check.
                self._roster.report(service, endpoint, Report(service=service))
                await asyncio.sleep(_FOREIGN_PAUSE_S)
                continue
            except (grpc.aio.AioRpcError, TimeoutError, _NotOurs) as error:
                reason = _describe(error)
                spoke = spoke and not isinstance(error, _NotOurs)
            if spoke:
                # The stream broke, and Envoy's checks decide for the moment; whether it is gone is what the next try tells.
                log.info("watch ended", reason=reason)
                pause_s = 0.0
                continue
            self._roster.lose(service, endpoint, reason)
            if pause_s == 0.0:
                log.warning("replica unreachable", reason=reason)
            pause_s = min(max(_FIRST_PAUSE_S, 2 * pause_s), _LAST_PAUSE_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing


async def _listen(endpoint: str) -> AsyncIterator[Report]:
    """What the replica says, on a connection of its own: a channel that failed once would wait before it tries again."""
    async with channel(endpoint) as open_channel:
        stub = replica_service_pb2_grpc.ReplicaServiceStub(open_channel)
        call = stub.StreamingWatchReplica(replica_service_pb2.StreamingWatchReplicaRequest())
        patience_s = _FIRST_WORD_S
        try:
            while True:
                async with asyncio.timeout(patience_s):
                    report = await call.read()
                if not isinstance(report, Report):
                    return
                yield report
                patience_s = _SILENCE_S
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise _Foreign from error
            raise
        finally:
            call.cancel()


class _Foreign(Exception):
    """The peer does not know ReplicaService."""


class _NotOurs(Exception):
    """The peer belongs to another service."""


def _describe(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    if isinstance(error, TimeoutError):
        return "it accepts connections and says nothing"
    return str(error)
