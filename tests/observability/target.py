"""Where the processes of a mesh tell their metrics, as Prometheus is told."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import httpx

SERVICES = ("vision", "nlp", "speech")
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Target:
    """job, service: labels that Prometheus gives it."""

    job: str
    service: str
    address: str
    path: str = "/metrics"

    def read(self) -> str:
        """What it tells now."""
        answer = httpx.get(f"http://{self.address}{self.path}", timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return answer.text


def make_targets() -> list[Target]:
    """One replica of each service and the gateway, on free ports."""
    gateway, *replicas = _free_addresses(1 + len(SERVICES))
    return [
        Target("gateway", "gateway", gateway),
        Target("gateway-control", "gateway", gateway, "/metrics/control"),
        *(Target("replicas", service, address) for service, address in zip(SERVICES, replicas, strict=True)),
    ]


def make_environ(targets: list[Target]) -> dict[str, str]:
    """What makes a mesh tell its metrics there."""
    return {
        f"SENSORIUM_{target.service.upper()}_RPC__METRICS_ADDRESS"
        if target.job == "replicas"
        else "SENSORIUM_GATEWAY_METRICS": target.address
        for target in targets
    }


def _free_addresses(count: int) -> list[str]:
    # All are held at once, so that none is found twice.
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return addresses
