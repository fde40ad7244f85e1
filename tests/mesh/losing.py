"""Callers that never pause while replicas are killed one after another; for tests and for `make chaos`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from tests.mesh.running import RunningMesh, replica_pids

Call = Callable[[], Awaitable[object]]
Ready = Callable[[], Awaitable[bool]]
CALL_TIMEOUT_S = 30


@dataclass
class Losses:
    """What the callers and the killer saw."""

    calls: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    longest_s: float = 0.0


@contextlib.asynccontextmanager
async def mesh_calls(
    mesh: RunningMesh, sample: Callable[[str], Path]
) -> AsyncIterator[tuple[list[Call], Ready]]:
    """One call of each service, and whether every replica of the mesh serves."""
    photo = vision_service_pb2.Image(content=sample("cat").read_bytes())
    clip = speech_service_pb2.Audio(content=sample("beckett").read_bytes())
    options = {"metadata": mesh.metadata, "timeout": CALL_TIMEOUT_S}
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        vision = vision_service_pb2_grpc.VisionServiceStub(channel)
        nlp = nlp_service_pb2_grpc.NlpServiceStub(channel)
        speech = speech_service_pb2_grpc.SpeechServiceStub(channel)
        meshes = mesh_service_pb2_grpc.MeshServiceStub(channel)

        async def ready() -> bool:
            listed = await meshes.ListReplicas(mesh_service_pb2.ListReplicasRequest(), **options)
            serving = [r for r in listed.replicas if r.state == mesh_service_pb2.MeshReplica.STATE_READY]
            return len(serving) == sum(map(len, replica_pids(mesh).values())) == expected

        expected = sum(map(len, replica_pids(mesh).values()))
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


async def wait_replicas(mesh: RunningMesh, ready: Ready, timeout_s: float) -> None:
    """Returns when every replica serves again."""
    async with asyncio.timeout(timeout_s):
        while not await ready():
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
    """Kills `kills` replicas, one every `every_s` seconds and over all services in turn, under `callers` endless callers.

    A replica is killed only while another one of its service serves: the mesh cannot answer without any.
    """
    losses, stopped = Losses(), asyncio.Event()
    turns = itertools.cycle(sorted(replica_pids(mesh)))
    tasks = [
        asyncio.create_task(keep_calling(calls[n % len(calls)], losses, stopped)) for n in range(callers)
    ]
    try:
        for _ in range(kills):
            await asyncio.sleep(every_s)
            await wait_replicas(mesh, ready, 60)
            os.kill(min(replica_pids(mesh)[next(turns)]), signal.SIGKILL)
            losses.kills += 1
        await wait_replicas(mesh, ready, 60)
    finally:
        stopped.set()
        await asyncio.wait(tasks, timeout=60)
    return losses
