"""The topology of a compose file as processes: each container an address of its own on loopback, names from a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.mesh.running import ROOT
from tests.support.name_server import NameServer

COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
STOP_S, START_S = 45, 90
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
_SERVE_PORT = 50051


def read_compose() -> dict[str, Any]:
    """The file with its variables' defaults."""
    document = yaml.safe_load(_DEFAULT.sub(r"\1", COMPOSE.read_text()))
    assert isinstance(document, dict)
    return document


@dataclass
class Container:
    """One replica: its process and its address."""

    address: str
    process: asyncio.subprocess.Process


@dataclass
class Composed:
    """A running topology. state: the volumes' stand-in, with `models` and `keys`."""

    document: dict[str, Any]
    state: Path
    names: NameServer
    address: str = ""
    replicas: dict[str, list[Container]] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    async def scale(self, service: str, count: int, *, forgotten_first: bool = False) -> None:
        """What `docker compose up --scale` does: starts new replicas, or stops the youngest and waits for their drain.

        A name stands for a container from its start to its end, as with Docker; with `forgotten_first` only until it is told
        to stop, as with Kubernetes.
        """
        running = self.replicas.setdefault(service, [])
        while len(running) < count:
            running.append(await self._start(service))
        leaving = running[count:]
        del running[count:]
        if forgotten_first:
            self._publish(service)
        for container in leaving:
            container.process.send_signal(signal.SIGTERM)
        for container in leaving:
            async with asyncio.timeout(STOP_S):
                assert await container.process.wait() == 0
        self._publish(service)

    def _publish(self, service: str) -> None:
        self.names.records[service] = [one.address for one in self.replicas[service]]

    async def _start(self, service: str) -> Container:
        described = self.document["services"][service]
        module = (described.get("command") or ["services.vision"])[0]
        number = self._numbers[service] = self._numbers.get(service, 0) + 1
        address = f"127.{10 + sorted(self.document['services']).index(service)}.0.{number}"
        part = f"SENSORIUM_{service.upper()}"
        environ = {
            **_clean(),
            "SENSORIUM_STATE_DIR": str(self.state),
            f"{part}_RPC__ADDRESS": f"{address}:{_SERVE_PORT}",
            # Two cores here, one a container.
            f"{part}_INFERENCE__CORES": "1",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=ROOT,
            env=environ,
            stderr=(self.state / f"{address}.log").open("w"),
        )
        container = Container(address, process)
        self.replicas.setdefault(service, [])
        self.names.records[service] = [*self.names.records.get(service, []), address]
        return container


@contextlib.asynccontextmanager
async def composed(state: Path, services: Sequence[str]) -> AsyncIterator[Composed]:
    """The gateway of the compose file with the replicas that it asks for of `services`; the others have none."""
    document = read_compose()
    subprocess.run(
        [sys.executable, "-m", "cli", "token", "keys", "--state-dir", str(state), "--out", str(state / "jwks.json")],
        cwd=ROOT, check=True, timeout=START_S,
    )  # fmt: skip
    mesh = state / "mesh.yaml"
    text = (COMPOSE.parent / document["configs"]["mesh"]["file"]).read_text()
    mesh.write_text(text.replace("/var/lib/sensorium/public/jwks.json", str(state / "jwks.json")))
    with NameServer() as names:
        topology = Composed(document, state, names)
        environ = {
            **_clean(),
            "SENSORIUM_STATE_DIR": str(state),
            "SENSORIUM_GATEWAY_LISTEN": "127.0.0.1:0",
            "SENSORIUM_GATEWAY_ADMIN_PORT": "0",
            "SENSORIUM_GATEWAY_METRICS": "127.0.0.1:0",
            "SENSORIUM_GATEWAY_DNS_SERVER": names.address,
        }
        for service in services:
            await topology.scale(service, document["services"][service]["deploy"]["replicas"])
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "--config", str(mesh), cwd=ROOT, env=environ,
            stderr=(state / "gateway.log").open("w"),
        )  # fmt: skip
        try:
            address = state / "run" / "gateway" / "address"
            async with asyncio.timeout(START_S):
                while not address.exists():
                    assert gateway.returncode is None, (state / "gateway.log").read_text()
                    await asyncio.sleep(0.05)
            topology.address = address.read_text().strip()
            yield topology
        finally:
            gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_S):
                await gateway.wait()
            for containers in topology.replicas.values():
                for container in containers:
                    container.process.kill()
                    await container.process.wait()


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
