"""All replicas the gateway knows of, as one immutable snapshot at a time.

Who is there comes from a Membership, what each says from its watch, whether calls reach it from the data plane; these
three write here, everything else reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

from sensorium.mesh.v1 import mesh_service_pb2, replica_service_pb2

ModelStatus = replica_service_pb2.ModelStatus
Report = replica_service_pb2.StreamingWatchReplicaResponse

_ENTERING = "the gateway is taking it into rotation"


class State(Enum):
    """How far the gateway can use a replica; values are those of the proto."""

    UNREACHABLE = mesh_service_pb2.MeshReplica.STATE_UNREACHABLE
    STARTING = mesh_service_pb2.MeshReplica.STATE_STARTING
    READY = mesh_service_pb2.MeshReplica.STATE_READY
    DRAINING = mesh_service_pb2.MeshReplica.STATE_DRAINING


@dataclass(frozen=True)
class Rotation:
    """What the data plane does with a replica.

    models: `name@version` of those for which calls reach it; None: no call does. reason: why not, where there is one
    beside that it is new.
    """

    models: frozenset[str] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Replica:
    """One endpoint of a service, and what it said last; `report` is empty if it never was reached.

    heard: it was reached, or failed to be, at least once. reason: why it is unreachable.
    """

    service: str
    endpoint: str
    state: State = State.UNREACHABLE
    reason: str = "not reached yet"
    report: Report = field(default_factory=Report)
    heard: bool = False
    rotation: Rotation = Rotation()

    @property
    def ready_models(self) -> list[ModelStatus]:
        """Models that answer here now."""
        if self.state is not State.READY:
            return []
        return [model for model in self.report.models if model.state == ModelStatus.STATE_READY]

    @property
    def ready_names(self) -> set[str]:
        """Names under which models answer here, typed or as graphs, without the service."""
        return {name for model in self.ready_models for name in (model.name, *model.graphs)}

    @property
    def ready_versions(self) -> set[str]:
        """As `ready_names`, each with the version: `name@version`."""
        return {
            f"{name}@{model.version}" for model in self.ready_models for name in (model.name, *model.graphs)
        }

    @property
    def ready_defaults(self) -> set[str]:
        """What the models that answer here are the default of: rpcs, or `Rpc/field` where one is that of those requests only
        which set the field.
        """
        return {default for model in self.ready_models for default in model.default_for}

    @property
    def ready_rpcs(self) -> set[str]:
        """Rpcs of which a default model answers here."""
        return {get_rpc(default) for default in self.ready_defaults}

    @cached_property
    def served(self) -> Replica:
        """The replica as a caller finds it: ready is only what the data plane has in rotation."""
        models = self.rotation.models
        if self.state is not State.READY:
            return self
        if models is None:
            state = State.UNREACHABLE if self.rotation.reason else State.STARTING
            replica = replace(self, state=state, reason=self.rotation.reason or _ENTERING)
        else:
            replica = self
        entering = [
            n
            for n, model in enumerate(self.report.models)
            if model.state == ModelStatus.STATE_READY
            and (models is None or f"{model.name}@{model.version}" not in models)
        ]
        if not entering:
            return replica
        report = Report()
        report.CopyFrom(self.report)
        for n in entering:
            report.models[n].state = ModelStatus.STATE_LOADING
            report.models[n].reason = replica.reason or _ENTERING
        return replace(replica, report=report)


def get_rpc(default: str) -> str:
    """The rpc of an entry of `default_for`, which may name a field behind it."""
    return default.partition("/")[0]


def find_default_endpoints(replicas: Iterable[Replica]) -> dict[str, set[str]]:
    """By rpc, the endpoints of one service for calls that name no model.

    An rpc may have several defaults, and which of them a call is for only the replica sees: so it goes where all of them are
    that anybody has, or, where nobody has all, where one is.
    """
    having = {replica.endpoint: replica.ready_defaults for replica in replicas}
    wanted: dict[str, set[str]] = {}
    for default in set[str]().union(*having.values()):
        wanted.setdefault(get_rpc(default), set()).add(default)
    found = {}
    for rpc, defaults in wanted.items():
        complete = {endpoint for endpoint, ready in having.items() if defaults <= ready}
        found[rpc] = complete or {endpoint for endpoint, ready in having.items() if defaults & ready}
    return found


Key = tuple[str, str]


class Roster:
    """Replicas by service and endpoint. All of it runs on the event loop."""

    def __init__(self) -> None:
        self._replicas: dict[Key, Replica] = {}
        # Replaced at every change; the old one is set.
        self._changed = asyncio.Event()

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """All of them now, by service and endpoint."""
        return tuple(self._replicas[key] for key in sorted(self._replicas))

    def of(self, service: str) -> tuple[Replica, ...]:
        """Those of one service."""
        return tuple(replica for replica in self.replicas if replica.service == service)

    def insert(self, service: str, endpoint: str) -> None:
        """Takes a replica in, unreached as yet."""
        self._put(self._replicas.setdefault((service, endpoint), Replica(service, endpoint)))

    def remove(self, service: str, endpoint: str) -> None:
        """Forgets a replica."""
        if self._replicas.pop((service, endpoint), None):
            self.announce()

    def report(self, service: str, endpoint: str, report: Report) -> None:
        """Takes what a replica says of itself."""
        replica = self._replicas.get((service, endpoint))
        if replica is None:
            return
        if report.draining:
            state = State.DRAINING
        elif not report.models or any(model.state == ModelStatus.STATE_READY for model in report.models):
            # One without any models has none to wait for.
            state = State.READY
        else:
            state = State.STARTING
        # Another process at the same address has to be taken into rotation anew.
        same = replica.report.instance_id == report.instance_id
        rotation = replica.rotation if same else Rotation()
        self._put(replace(replica, state=state, reason="", report=report, heard=True, rotation=rotation))

    def lose(self, service: str, endpoint: str, reason: str) -> None:
        """Marks a replica that cannot be reached."""
        replica = self._replicas.get((service, endpoint))
        if replica is not None:
            self._put(
                replace(replica, state=State.UNREACHABLE, reason=reason, heard=True, rotation=Rotation())
            )

    def rotate(self, of: Replica, rotation: Rotation) -> None:
        """Takes what the data plane does with a replica; nothing if that is another process by now."""
        replica = self._replicas.get((of.service, of.endpoint))
        if replica is not None and replica.heard and replica.report.instance_id == of.report.instance_id:
            self._put(replace(replica, rotation=rotation))

    async def changes(self) -> AsyncIterator[tuple[Replica, ...]]:
        """The replicas now, and again after every change; several changes at a time count as one."""
        while True:
            changed = self._changed
            yield self.replicas
            await changed.wait()

    async def wait_until_heard(self, timeout_s: float) -> None:
        """Waits until every replica was reached, or failed to be, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                async for replicas in self.changes():
                    if all(replica.heard for replica in replicas):
                        return
        except TimeoutError:
            return

    def _put(self, replica: Replica) -> None:
        key = (replica.service, replica.endpoint)
        if self._replicas.get(key) == replica and replica.heard:
            return
        self._replicas[key] = replica
        self.announce()

    def announce(self) -> None:
        """Wakes whoever waits for changes."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
