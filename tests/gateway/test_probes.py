"""What Kubernetes asks a gateway, as the manifest says it, by a gateway that has no replica, hangs, or is full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2

from tests.gateway.support.running import ROOT, SMALL_HEAP, Gateway, eventually, say
from tests.gateway.support.toy import SayResponse, toy
from tests.support.waiting import within

MANIFEST = ROOT / "deploy" / "kubernetes" / "base" / "gateway" / "deployment.yaml"
(CONTAINER,) = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]["containers"]
SERVING = health_pb2.HealthCheckResponse.SERVING


async def ask(gateway: Gateway, probe: str) -> bool:
    """Whether one of the manifest's probes passes."""
    said = CONTAINER[probe]
    if "grpc" in said:
        return await gateway.health(said["grpc"].get("service", "")) == SERVING
    state = next(volume["mountPath"] for volume in CONTAINER["volumeMounts"] if volume["name"] == "state")
    program, *words = (word.replace(state, str(gateway.state)) for word in said["exec"]["command"])
    assert program == "python"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    return await within(process.wait(), said["timeoutSeconds"]) == 0


async def test_without_replicas_it_is_up_alive_and_not_ready(gateway: Gateway) -> None:
    assert await ask(gateway, "startupProbe")
    assert await ask(gateway, "livenessProbe")
    assert not await ask(gateway, "readinessProbe")
    async with gateway.replica():
        assert await ask(gateway, "readinessProbe")


async def test_a_control_plane_that_hangs_is_found(new_gateway: Any) -> None:
    gateway = new_gateway()
    gateway.start()
    assert await ask(gateway, "livenessProbe")
    os.kill(gateway.process.pid, signal.SIGSTOP)
    try:
        assert not await ask(gateway, "livenessProbe")
        # Envoy says nothing of it.
        host, port = gateway.address.split(":")
        _, writer = await within(asyncio.open_connection(host, int(port)))
        writer.close()
    finally:
        os.kill(gateway.process.pid, signal.SIGCONT)


async def test_a_gateway_that_is_full_is_not_restarted(new_gateway: Any) -> None:
    go_on = asyncio.Event()

    async def hold(request: Any, context: Any) -> Any:
        await go_on.wait()
        return SayResponse(text="ok")

    gateway = new_gateway(mesh=SMALL_HEAP)
    gateway.start()
    async with gateway.replica(register=[toy(hold)]):
        held: list[asyncio.Task[Any]] = []

        async def is_full() -> bool:
            held.append(asyncio.create_task(say(gateway, text="x" * (5 << 20), timeout=30)))
            await asyncio.wait(held, timeout=0.3)
            try:
                await gateway.health()
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False

        await eventually(is_full, "the port refuses probes")
        assert await ask(gateway, "livenessProbe")
        go_on.set()
        await within(asyncio.gather(*held, return_exceptions=True))

        async def relieved() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await gateway.health() == SERVING
            return False

        await eventually(relieved, "calls are taken again")
