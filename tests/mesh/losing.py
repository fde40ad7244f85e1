"""Callers that never pause while replicas are killed one after another: who counts the lost calls, in tests and in `make chaos`."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc

from tests.mesh.running import RunningMesh, replica_pids

Call = Callable[[], Awaitable[object]]


@dataclass
class Losses:
    """What the callers and the killer saw."""

    calls: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    longest_s: float = 0.0


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


async def wait_replicas(mesh: RunningMesh, ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Returns when every replica serves again."""
    async with asyncio.timeout(timeout_s):
        while not await ready():
            await asyncio.sleep(0.1)


async def lose_replicas(
    mesh: RunningMesh,
    calls: Sequence[Call],
    ready: Callable[[], Awaitable[bool]],
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
