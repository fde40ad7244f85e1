"""Callers that never pause while replicas are killed one after another; for tests and for `make chaos`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from tests.mesh.running import RunningMesh, replica_pids

Call = Callable[[], Awaitable[object]]
Ready = Callable[[str], Awaitable[bool]]
MODEL_READY = replica_service_pb2.ModelStatus.STATE_READY
CALL_TIMEOUT_S = 30
REPLICA_READY = mesh_service_pb2.MeshReplica.STATE_READY


@dataclass
class Losses:
    """What the callers and the killer saw."""

    calls: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    longest_s: float = 0.0
    wall_s: float = 0.0


@contextlib.asynccontextmanager
async def mesh_calls(
    mesh: RunningMesh, sample: Callable[[str], Path]
) -> AsyncIterator[tuple[list[Call], Ready]]:
    """One call of each service, and whether all replicas of a service serve all their models."""
    photo = vision_service_pb2.Image(content=sample("cat").read_bytes())
    clip = speech_service_pb2.Audio(content=sample("beckett").read_bytes())
    options = {"metadata": mesh.metadata, "timeout": CALL_TIMEOUT_S}
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        vision = vision_service_pb2_grpc.VisionServiceStub(channel)
        nlp = nlp_service_pb2_grpc.NlpServiceStub(channel)
        speech = speech_service_pb2_grpc.SpeechServiceStub(channel)
        meshes = mesh_service_pb2_grpc.MeshServiceStub(channel)

        async def ready(service: str) -> bool:
            request = mesh_service_pb2.ListReplicasRequest(service=service)
            replicas = (await meshes.ListReplicas(request, **options)).replicas
            serving = [
                replica
                for replica in replicas
                if replica.state == REPLICA_READY
                and all(model.state == MODEL_READY for model in replica.models)
            ]
            return len(serving) == len(replica_pids(mesh)[service]) == expected[service]

        expected = {service: len(pids) for service, pids in replica_pids(mesh).items()}
        yield (
            [
                lambda: vision.ClassifyImage(
                    vision_service_pb2.ClassifyImageRequest(images=[photo]), **options
                ),
                lambda: nlp.EmbedText(nlp_service_pb2.EmbedTextRequest(texts=["The cat sleeps."]), **options),
                lambda: speech.DetectSpeech(speech_service_pb2.DetectSpeechRequest(audio=clip), **options),
            ],
            ready,
        )


async def keep_calling(call: Call, losses: Losses, stopped: asyncio.Event) -> None:
    """One caller: one call after the other; what fails is counted with its code and text."""
    while not stopped.is_set():
        begun = time.monotonic()
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            losses.lost[f"{error.code().name}: {error.details()}"] += 1
        losses.calls += 1
        losses.longest_s = max(losses.longest_s, time.monotonic() - begun)


async def wait_ready(ready: Ready, services: Sequence[str], timeout_s: float) -> None:
    """Returns when all replicas of the services serve."""
    async with asyncio.timeout(timeout_s):
        for service in services:
            while not await ready(service):
                await asyncio.sleep(0.1)


async def lose_replicas(
    mesh: RunningMesh,
    calls: Sequence[Call],
    ready: Ready,
    *,
    kills: int,
    every_s: float,
    callers: int = 16,
) -> Losses:
    """Kills `kills` replicas, one every `every_s` seconds, over all services in turn, under `callers` endless callers.

    A kill is late while the service whose turn it is has not recovered: without any replica no mesh can answer.
    """
    losses, stopped, begun_s = Losses(), asyncio.Event(), time.monotonic()
    services = sorted(replica_pids(mesh))
    tasks = [
        asyncio.create_task(keep_calling(calls[n % len(calls)], losses, stopped)) for n in range(callers)
    ]
    try:
        for n in range(kills):
            service = services[n % len(services)]
            await asyncio.sleep(max(0.0, begun_s + (n + 1) * every_s - time.monotonic()))
            if not await ready(service):
                await wait_ready(ready, [service], 60)
            os.kill(min(replica_pids(mesh)[service]), signal.SIGKILL)
            losses.kills += 1
        losses.wall_s = time.monotonic() - begun_s
        await wait_ready(ready, services, 60)
    finally:
        stopped.set()
        await asyncio.wait(tasks, timeout=60)
    return losses
