"""What the control plane's servicers look at: the configuration, the contract, and the models as they are now."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gateway.config import Mesh, Service
from gateway.contract import Contract
from gateway.discovery.catalog import Catalog
from gateway.discovery.roster import Roster


class View:
    """`draining` is set when the gateway is told to stop; from then on it says that it does not serve."""

    def __init__(self, mesh: Mesh, contract: Contract, roster: Roster) -> None:
        self.mesh, self.contract = mesh, contract
        self.draining = False
        self._roster = roster
        self._owners = {grpc: service for service in mesh.services for grpc in service.grpc}
        services = [service.name for service in mesh.services]
        self._said, self._served = Catalog(services, ()), Catalog(services, ())

    @property
    def catalog(self) -> Catalog:
        """The models as callers find them: what the data plane does not have in rotation is not ready."""
        self._update()
        return self._served

    @property
    def said(self) -> Catalog:
        """The models as the replicas tell of them, a moment ahead of the data plane."""
        self._update()
        return self._said

    def _update(self) -> None:
        """Makes both anew only when something changed."""
        replicas = self._roster.replicas
        if replicas != self._said.replicas:
            services = self._said.services
            self._said = Catalog(services, replicas)
            self._served = Catalog(services, [replica.served for replica in replicas])

    def owner(self, grpc: str) -> Service | None:
        """The configured service that answers a gRPC service."""
        return self._owners.get(grpc)

    async def changes(self) -> AsyncIterator[Catalog]:
        """The models now, and again after every change."""
        async for _ in self._roster.changes():
            yield self.catalog

    def set_draining(self) -> None:
        """Says so to whoever watches the gateway's health."""
        self.draining = True
        self._roster.announce()
