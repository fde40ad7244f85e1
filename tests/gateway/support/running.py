"""A gateway as a process of its own, with its state in a temporary folder, and what a test asks of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from joserfc.jwk import ECKey
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc

from gateway.identity.key import load_or_create
from gateway.identity.token import mint
from shared.rpc.channel import channel
from tests.gateway.support import toy
from tests.support.serving import Serving, serving

ROOT = Path(__file__).parents[3]
# What starts or is noticed within this time is fine; everything here takes a tenth of it.
PATIENCE_S = 15.0
MESH = """
services:
  - {name: toy, grpc: [toy.v1.ToyService], descriptors: toy.binpb}
  - {name: vision, grpc: [sensorium.vision.v1.VisionService]}
auth: {open: [health]}
rate_limits:
  default: {per_s: 100000, burst: 100000}
  tiers: {slow: {per_s: 1, burst: 3}}
timeouts: {default_s: 20, max_s: 30}
limits: {max_message_bytes: 4194304}
health_checks: {interval_s: 0.2}
"""
# A few calls of 5 MB fill it.
SMALL_HEAP = MESH.replace(
    "limits: {max_message_bytes: 4194304}", "limits: {max_message_bytes: 33554432, max_heap_bytes: 134217728}"
)


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: str, patience_s: float = PATIENCE_S
) -> None:
    """Asks again and again until `condition` holds: what another process does cannot be awaited."""
    deadline_s = time.monotonic() + patience_s
    while not await condition():
        assert time.monotonic() < deadline_s, f"not so after {patience_s:g} s: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Gateway:
    """A gateway's folder, and its process while it runs."""

    state: Path
    mesh: str = MESH
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    key: ECKey | None = None

    @property
    def run(self) -> Path:
        return self.state / "run" / "gateway"

    @property
    def config(self) -> Path:
        return self.state / "mesh.yaml"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def envoy_pid(self) -> int:
        return int(json.loads((self.run / "envoy.json").read_text())["pid"])

    def admin(self, path: str) -> str:
        port = json.loads((self.run / "envoy.json").read_text())["admin_port"]
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).text

    def stat(self, name: str) -> int:
        """A counter or gauge of Envoy's; 0 if it has none of that name."""
        for line in self.admin(f"/stats?filter=^{name}$").splitlines():
            return int(line.rpartition(": ")[2])
        return 0

    def log(self) -> str:
        return (self.state / "log").read_text()

    def prepare(self) -> None:
        """Writes keys, descriptors and mesh.yaml."""
        self.key = load_or_create(self.state / "keys")
        (self.state / "toy.binpb").write_bytes(toy.descriptor_set())
        self.config.write_text(self.mesh)

    @contextmanager
    def running(self) -> Iterator[Gateway]:
        """Prepared and started, for the length of a `with` block."""
        self.prepare()
        try:
            self.start()
            yield self
        finally:
            self.clear()

    def command(self) -> tuple[list[str], dict[str, str]]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
        return [sys.executable, "-m", "gateway", "--config", str(self.config)], {
            **environ,
            "SENSORIUM_STATE_DIR": str(self.state),
            "SENSORIUM_GATEWAY_LISTEN": "127.0.0.1:0",
            "SENSORIUM_GATEWAY_ADMIN_PORT": "0",
            "SENSORIUM_GATEWAY_CONCURRENCY": "2",
            "SENSORIUM_LOG_LEVEL": "debug",
            **self.environ,
        }

    def start(self) -> None:
        """Starts it and waits until it takes calls."""
        command, environ = self.command()
        (self.run / "address").unlink(missing_ok=True)
        with (self.state / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=log, stdout=log)
        deadline_s = time.monotonic() + PATIENCE_S
        while not (self.run / "address").exists():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.02)
        self.address = (self.run / "address").read_text().strip()

    def refuse(self) -> str:
        """Starts it where it cannot start; returns its one line."""
        command, environ = self.command()
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.stderr
        said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert len(said) == 1, done.stderr
        return said[0]

    def stop(self) -> int:
        """SIGTERM, as an operator does; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL of the control plane alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def clear(self) -> None:
        """Leaves nothing running, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
        try:
            os.kill(self.envoy_pid, signal.SIGKILL)
        except (OSError, ValueError):
            return

    def token(self, *scopes: str, subject: str = "test", lifetime_s: float = 600, **more: Any) -> str:
        assert self.key is not None
        return mint(
            self.key,
            subject=subject,
            scopes=scopes or ("toy", "vision", "mesh", "admin"),
            lifetime_s=lifetime_s,
            **more,
        )

    def metadata(self, *scopes: str, **more: Any) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token(*scopes, **more)}"),)

    def headers(self, *scopes: str, **more: Any) -> dict[str, str]:
        return dict(self.metadata(*scopes, **more))

    def channel(self) -> grpc.aio.Channel:
        return channel(self.address, max_message_bytes=64 << 20)

    @asynccontextmanager
    async def replica(
        self,
        service: str = "toy",
        models: Sequence[Any] = (),
        register: Sequence[Callable[[Any], None]] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Serving]:
        """A replica in the test's own process, in rotation until the block ends."""
        from shared.rpc.replica import Replica

        replica = Replica(service)
        replica.set_models(models or [toy.model("echo", default_for=("Say",))])
        made = [toy.toy(), toy.inference(service)] if register is None else register
        async with serving(*made, replica=replica, **settings) as server:
            written = self.write_endpoint(service, server.address)
            try:
                await self.until_state(service, server.address, mesh_service_pb2.MeshReplica.STATE_READY)
                yield server
            finally:
                written.unlink(missing_ok=True)
                await self.until_state(service, server.address, None)

    def write_endpoint(self, service: str, address: str) -> Path:
        folder = self.state / "run" / "endpoints" / service
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / address.replace("/", "_")
        path.with_name(f".{path.name}").write_text(address)
        return path.with_name(f".{path.name}").rename(path)

    async def replicas(self, service: str = "") -> dict[str, Any]:
        """What the gateway says of its replicas, by endpoint."""
        async with self.channel() as opened:
            stub = mesh_service_pb2_grpc.MeshServiceStub(opened)
            request = mesh_service_pb2.ListReplicasRequest(service=service)
            answer = await stub.ListReplicas(request, metadata=self.metadata("mesh"), timeout=10)
        return {replica.endpoint: replica for replica in answer.replicas}

    async def until_state(self, service: str, endpoint: str, state: int | None) -> None:
        async def holds() -> bool:
            found = (await self.replicas(service)).get(endpoint)
            return (found.state if found else None) == state

        await eventually(holds, f"{endpoint} of {service} is in state {state}")

    async def http(
        self, verb: str, path: str, *, headers: Any = None, content: Any = None, json: Any = None
    ) -> httpx.Response:
        """One HTTP/JSON call; by default with a token that opens everything."""
        # Without TLS: reading the authorities would take longer than the call.
        async with httpx.AsyncClient(base_url=self.url, timeout=20, verify=False) as client:
            given = self.headers() if headers is None else headers
            return await client.request(verb, path, headers=given, content=content, json=json)

    async def health(self, name: str = "") -> int:
        async with self.channel() as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        return int(answer.status)


async def say(
    gateway: Gateway, method: str = "Say", *, metadata: Any = None, timeout: float = 10, **fields: Any
) -> Any:
    """Calls the toy once, on a connection of its own."""
    async with gateway.channel() as opened:
        call = opened.unary_unary(
            f"/{toy.SERVICE}/{method}",
            request_serializer=toy.SayRequest.SerializeToString,
            response_deserializer=toy.SayResponse.FromString,
        )
        return await call(
            toy.SayRequest(**fields),
            metadata=gateway.metadata() if metadata is None else metadata,
            timeout=timeout,
        )
