"""Whether calls reach a replica: what was published, compared with what Envoy says it has and finds healthy.

A replica that says it is ready gets its first call only when Envoy has read the endpoints and the routes, and its own first
check went well. Whoever takes the last of the old replicas away must not do so before.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path

from gateway.discovery.roster import Roster, Rotation, State
from gateway.envoy.admin import Admin, AdminError
from gateway.envoy.clusters import endpoints_path
from gateway.envoy.files import Publisher
from gateway.envoy.listener import ROUTES, routes_path

# Between looks: the first after something was published, doubled up to the last. Envoy has read a file within
# milliseconds and checks a new replica at once; one look costs it and us half a millisecond each.
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.01, 1.0
_VERSIONS = r"^(cluster\.[^.]+|http\.mesh\.rds\.[^.]+)\.version_text$"
# Marks of a host that gets no calls, of Envoy's `HostHealthStatus`, with what they mean.
_ILL = {
    "failed_active_health_check": "the gateway's health checks fail",
    "failed_outlier_check": "the gateway could not connect to it a moment ago",
    "pending_dynamic_removal": "the gateway is taking it out of rotation",
}
# So marked is also one that was not checked at all yet.
_UNCHECKED = "pending_active_hc"

Address = tuple[str, int]


class RotationWatch:
    """Tells the roster what Envoy does with each replica. folder: where the published files lie."""

    def __init__(self, admin: Admin, roster: Roster, publisher: Publisher, folder: Path) -> None:
        self._admin, self._roster, self._publisher, self._folder = admin, roster, publisher, folder

    async def run(self) -> None:
        """Looks after every publication, soon and then ever more rarely; runs until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            published = self._publisher.published
            try:
                await self.look()
            except AdminError:
                # It is being started again, and serves nothing that could be told of. What it had it will have again
                # before it takes calls.
                pause_s = _FIRST_PAUSE_S
            try:
                async with asyncio.timeout(pause_s):
                    await published.wait()
                pause_s = _FIRST_PAUSE_S
            except TimeoutError:
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def look(self) -> None:
        """Compares once. Raises AdminError."""
        # Before Envoy is asked: what is published meanwhile is not what it answers about.
        versions, replicas = self._publisher.versions, self._publisher.replicas
        loaded = read_versions(await self._admin.get(f"/stats?filter={_VERSIONS}"))
        hosts = read_hosts(await self._admin.get("/clusters?format=json"))
        routes = versions.get(routes_path(self._folder))
        routed = routes is not None and loaded.get(f"http.mesh.rds.{ROUTES}") == routes
        for replica in replicas:
            endpoints = versions.get(endpoints_path(self._folder, replica.service))
            current = routed and loaded.get(f"cluster.{replica.service}") == endpoints
            ill = hosts.get(replica.service, {}).get(parse_address(replica.endpoint), "")
            if ill is not None:
                self._roster.rotate(replica, Rotation(reason=ill))
            elif current:
                # While it reads the new files, the old ones hold.
                models = frozenset(f"{one.name}@{one.version}" for one in replica.ready_models)
                ready = replica.state is State.READY
                self._roster.rotate(replica, Rotation(models) if ready else Rotation())


def read_versions(stats: str) -> Mapping[str, str]:
    """The version of each file that Envoy goes by, out of lines `<scope>.version_text: "<version>"`."""
    pairs = (line.rpartition(": ") for line in stats.splitlines())
    return {name.removesuffix(".version_text"): value.strip('"') for name, _, value in pairs}


def read_hosts(clusters: str) -> Mapping[str, Mapping[Address, str | None]]:
    """Hosts by cluster and address, out of `/clusters?format=json`.

    None: it gets calls; text: why it gets none; empty text: because it is new. Raises AdminError.
    """
    try:
        return {
            cluster["name"]: {
                _address(host["address"]): _judge(host["health_status"])
                for host in cluster.get("host_statuses", ())
            }
            for cluster in json.loads(clusters)["cluster_statuses"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise AdminError("/clusters: expected hosts with address and health, got something else") from error


def parse_address(endpoint: str) -> Address:
    """`host:port` or `unix:/path` in one form: whatever way an IP address is written."""
    if endpoint.startswith("unix:"):
        return endpoint.removeprefix("unix:"), 0
    host, _, port = endpoint.rpartition(":")
    return _canonical(host.strip("[]")), int(port)


def _address(found: Mapping[str, Mapping[str, object]]) -> Address:
    if "pipe" in found:
        return str(found["pipe"]["path"]), 0
    socket = found["socket_address"]
    return _canonical(str(socket["address"])), int(str(socket["port_value"]))


def _canonical(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _judge(status: Mapping[str, object]) -> str | None:
    if status.get(_UNCHECKED):
        return ""
    return next((text for mark, text in _ILL.items() if status.get(mark)), None)
