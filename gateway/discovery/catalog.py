"""What the models' names mean, given what the replicas say. Pure.

A public name is `<service>/<model>`; the bare name works while one service only has it. A graph of a model has a name of its
own, `<model>.<graph>`, in the Open Inference Protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.discovery.roster import ModelStatus, Replica, State, get_rpc
from shared.errors import FailedPrecondition, NotFound, Unavailable

# When to ask again for a model that is not ready: a replica takes a few seconds to load it.
RETRY_AFTER_S = 2.0
_ROTATION = (State.READY,)


@dataclass(frozen=True)
class Known:
    """A model at one version over all replicas of its service: the best status, and how many have it."""

    service: str
    status: ModelStatus
    ready_replicas: int
    replicas: int


class Catalog:
    """An immutable view on one snapshot of replicas. services: those that are configured, with or without replicas."""

    def __init__(self, services: Sequence[str], replicas: Sequence[Replica]) -> None:
        self.services = tuple(services)
        self.replicas = tuple(replicas)
        self._names: dict[str, set[str]] = {service: set() for service in services}
        # Models that no replica has open, so that the names of their graphs are not known.
        self._closed: dict[str, set[str]] = {service: set() for service in services}
        self._ready_names: dict[str, set[str]] = {service: set() for service in services}
        self._ready_models: dict[str, set[str]] = {service: set() for service in services}
        self._defaults: dict[str, set[str]] = {service: set() for service in services}
        self._ready_defaults: dict[str, set[str]] = {service: set() for service in services}
        self._split: dict[str, set[tuple[str, str]]] = {service: set() for service in services}
        for service in services:
            self._split[service] = _find_split(self.in_rotation(service))
        for replica in replicas:
            if replica.service not in self._names:
                continue
            for model in replica.report.models:
                self._names[replica.service] |= {model.name, *model.graphs}
                self._defaults[replica.service] |= set(map(get_rpc, model.default_for))
            self._ready_names[replica.service] |= replica.ready_names
            self._ready_models[replica.service] |= {model.name for model in replica.ready_models}
            self._ready_defaults[replica.service] |= replica.ready_rpcs
        for service, closed in self._closed.items():
            reported = [model for one in replicas if one.service == service for model in one.report.models]
            closed |= {model.name for model in reported}
            closed -= {model.name for model in reported if model.state == ModelStatus.STATE_READY}

    def ready_models(self, service: str) -> set[str]:
        """Models of a service that answer typed calls somewhere."""
        return self._ready_models[service]

    def ready_names(self, service: str) -> set[str]:
        """Names of models and graphs of a service that answer somewhere."""
        return self._ready_names[service]

    def split_versions(self, service: str) -> set[tuple[str, str]]:
        """Names with a version that some replicas answer for, and others answer for another version of it only."""
        return self._split[service]

    def default_ready(self, service: str, rpc: str) -> bool | None:
        """Whether a default model of an rpc answers somewhere; None if no model is known to be its default."""
        if rpc not in self._defaults[service]:
            return None
        return rpc in self._ready_defaults[service]

    def in_rotation(self, service: str) -> tuple[Replica, ...]:
        """Replicas of a service that take calls."""
        return tuple(one for one in self.replicas if one.service == service and one.state in _ROTATION)

    def is_unique(self, name: str) -> bool:
        """Whether one service only has a model or graph of that bare name, ready or not."""
        return sum(name in names for names in self._names.values()) == 1

    def public_names(self) -> list[str]:
        """All models and graphs, `<service>/<name>`."""
        return sorted(f"{service}/{name}" for service, names in self._names.items() for name in names)

    def find(self, name: str, service: str | None = None) -> tuple[str, str]:
        """Service and bare name that `name` stands for; `service` if it is known from elsewhere.

        Raises NotFound with the names that exist, or FailedPrecondition with the candidates.
        """
        prefix, slash, bare = name.partition("/")
        if slash and prefix in self._names and self._has(prefix, bare) and service in (None, prefix):
            return prefix, bare
        owners = (
            [] if slash else [one for one in self._names if self._has(one, name) and service in (None, one)]
        )
        if not owners:
            names = self.public_names() if service is None else sorted(self._names[service])
            raise NotFound("model", name, known=names)
        if len(owners) > 1:
            candidates = ", ".join(f"{owner}/{name}" for owner in owners)
            raise FailedPrecondition(
                f'"{name}" is a model of several services', fix=f"name one of {candidates} instead"
            )
        return owners[0], name

    def _has(self, service: str, name: str) -> bool:
        """Whether a name is a service's: a model's, a graph's, or what may be a graph of a model that is not open."""
        return name in self._names[service] or name.rpartition(".")[0] in self._closed[service]

    def explain(self, service: str, name: str) -> Unavailable:
        """Why a known model does not answer."""
        statuses = [
            (replica, model)
            for replica in self.replicas
            if replica.service == service
            for model in replica.report.models
            if name in (model.name, *model.graphs)
            or (model.name in self._closed[service] and name.startswith(f"{model.name}."))
        ]
        reasons = [model.reason for replica, model in statuses if model.reason]
        if reasons:
            reason = reasons[0]
        elif any(model.state == ModelStatus.STATE_LOADING for _, model in statuses):
            reason = "it is loading"
        else:
            reason = self.explain_service(service)
        return Unavailable(f"model {service}/{name}", reason=reason, retry_after_s=RETRY_AFTER_S)

    def explain_service(self, service: str) -> str:
        """Why no replica of a service takes calls, in words."""
        replicas = [replica for replica in self.replicas if replica.service == service]
        if not replicas:
            return "the gateway knows of no replica"
        counts = {state: sum(replica.state is state for replica in replicas) for state in State}
        said = ", ".join(f"{count} {state.name.lower()}" for state, count in counts.items() if count)
        return f"of {len(replicas)} replicas: {said}"

    def models(self) -> list[Known]:
        """Every model that any replica knows, by service, name and version."""
        found: dict[tuple[str, str, str], list[tuple[Replica, ModelStatus]]] = {}
        for replica in self.replicas:
            for model in replica.report.models:
                found.setdefault((replica.service, model.name, model.version), []).append((replica, model))
        return [
            _join(service, entries)
            for (service, _, _), entries in sorted(found.items(), key=lambda item: item[0])
        ]


def _find_split(replicas: Sequence[Replica]) -> set[tuple[str, str]]:
    every = [replica.ready_versions for replica in replicas]
    found = set()
    for one in set().union(*every):
        name, _, version = one.rpartition("@")
        having = sum(name in replica.ready_names for replica in replicas)
        if sum(one in versions for versions in every) < having:
            found.add((name, version))
    return found


# Best first.
_ORDER = (
    ModelStatus.STATE_READY,
    ModelStatus.STATE_LOADING,
    ModelStatus.STATE_UNAVAILABLE,
    ModelStatus.STATE_UNSPECIFIED,
)


def _join(service: str, entries: Sequence[tuple[Replica, ModelStatus]]) -> Known:
    # Of a version that serves and whose folder was damaged since, one replica says both.
    ready = len(
        {
            replica.endpoint
            for replica, model in entries
            if replica.state is State.READY and model.state == ModelStatus.STATE_READY
        }
    )
    best = ModelStatus()
    best.CopyFrom(min((model for _, model in entries), key=lambda model: _ORDER.index(model.state)))
    if not ready and best.state == ModelStatus.STATE_READY:
        # The replicas that had it do not take calls.
        best.state = ModelStatus.STATE_UNAVAILABLE
        replica = entries[0][0]
        best.reason = f"its replica is {replica.state.name.lower()}" + (
            f": {replica.reason}" if replica.reason else ""
        )
    if best.state != ModelStatus.STATE_READY and not best.reason:
        best.reason = next((model.reason for _, model in entries if model.reason), "")
    return Known(service, best, ready, len({replica.endpoint for replica, _ in entries}))
