"""How calls wait at several replicas behind real gateways, beside what one common queue would make of it.

The replicas are toys: each answers one call at a time, in the order of their coming, and takes as long for it as a model
would, asleep. So many of them run on two cores, and what is measured is the gateways' choice of a replica: the least loaded
of some drawn at random, by the calls of its own that each gateway has in flight.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.progress import Progress
from sensorium.mesh.v1 import mesh_service_pb2

from shared.telemetry import logging
from tests.benchmarks.open_loop import percentile
from tests.benchmarks.queueing import Demand, predict
from tests.benchmarks.report import Row, describe_machine
from tests.gateway.support import toy
from tests.gateway.support.running import Gateway

# Long beside what the event loop and two cores add to a call.
HOLD_S = 0.05
DURATION_S = 15.0
LOADS = (0.7, 0.85)
# Replicas and gateways.
SHAPES = ((1, 1), (2, 1), (8, 1), (8, 3))
_READY = mesh_service_pb2.MeshReplica.STATE_READY


def one_at_a_time() -> tuple[Any, list[float]]:
    """What registers a replica, and how long each of its calls took once it was begun."""
    lock, took_s = asyncio.Lock(), []

    async def say(request: Any, context: Any) -> Any:
        async with lock:
            began_s = time.monotonic()
            await asyncio.sleep(HOLD_S)
            took_s.append(time.monotonic() - began_s)
        return toy.SayResponse()

    return toy.toy(say), took_s


async def load(calls: Sequence[Any], rate: float, seed: int) -> list[float]:
    """Random arrivals, each to the next gateway; how long calls took from when they were due."""
    rng, latencies_s = random.Random(seed), []
    start_s, due_s = time.monotonic(), 0.0

    async def send(call: Any, due_s: float) -> None:
        await call(toy.SayRequest(), timeout=30)
        latencies_s.append(time.monotonic() - start_s - due_s)

    async with asyncio.TaskGroup() as group:
        for call in itertools.cycle(calls):
            due_s += rng.expovariate(rate)
            if due_s > DURATION_S:
                break
            await asyncio.sleep(max(0.0, start_s + due_s - time.monotonic()))
            group.create_task(send(call, due_s))
    return latencies_s


async def take(replicas: int, gateways: int, machine: str) -> list[Row]:
    """Every load at one shape."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        running = []
        for _ in range(gateways):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            running.append(Gateway(Path(folder), environ={"SENSORIUM_GATEWAY_CONCURRENCY": "1"}))
            running[-1].prepare()
            stack.callback(running[-1].clear)
            await asyncio.to_thread(running[-1].start)
        served = []
        for _ in range(replicas):
            register, took_s = one_at_a_time()
            served.append(took_s)
            opened: Any = running[0].replica(register=[register])
            replica = await stack.enter_async_context(opened)
            for gateway in running[1:]:
                gateway.write_endpoint("toy", replica.address)
                await gateway.until_state("toy", replica.address, _READY)
        calls = []
        for gateway in running:
            channel = await stack.enter_async_context(gateway.channel())
            asked: Any = channel.unary_unary(
                f"/{toy.SERVICE}/Say", toy.SayRequest.SerializeToString, toy.SayResponse.FromString
            )
            calls.append(functools.partial(asked, metadata=gateway.metadata()))
        for call in calls:
            await call(toy.SayRequest(), timeout=30)
        alone_s = await measure_alone(calls[0])
        for seed, share in enumerate(LOADS):
            for took_s in served:
                took_s.clear()
            latencies_s = await load(calls, share * replicas / HOLD_S, seed)
            rows += make_rows(replicas, gateways, share, latencies_s, alone_s, served, machine)
    return rows


async def measure_alone(call: Any) -> float:
    """A call that waits for nobody."""
    took_s = []
    for _ in range(20):
        began_s = time.monotonic()
        await call(toy.SayRequest(), timeout=30)
        took_s.append(time.monotonic() - began_s)
    return sorted(took_s)[len(took_s) // 2]


def make_rows(
    replicas: int,
    gateways: int,
    share: float,
    latencies_s: Sequence[float],
    alone_s: float,
    served: Sequence[Sequence[float]],
    machine: str,
) -> Iterator[Row]:
    """Waiting in service times, and what one queue would give at the load that there was."""
    all_s = [took_s for of_replica in served for took_s in of_replica]
    service_s = sum(all_s) / len(all_s)
    work = min(len(all_s) / DURATION_S * service_s, 0.99 * replicas)
    one_queue = predict(replicas, Demand(work / service_s, service_s, 0.0))
    name = f"balancing/{replicas}x{gateways}/p95_at_{share:g}"
    how = (
        f"{replicas} replicas that sleep {HOLD_S * 1e3:g} ms a call, {gateways} gateways, {len(latencies_s)} calls,"
        f" {work / replicas:.0%} busy; {machine}"
    )
    waited = max(0.0, percentile(latencies_s, 0.95) - alone_s) / service_s
    yield Row(name, waited, None, None, "service times", "", "no bar", how)
    foreseen = one_queue.quantile_s(0.95) / service_s
    yield Row(f"{name}_of_one_queue", foreseen, None, None, "service times", "", "no bar", f"formula; {how}")


async def _measure(machine: str) -> list[Row]:
    rows = []
    with Progress(transient=True) as progress:
        task = progress.add_task("balancing", total=len(SHAPES))
        for replicas, gateways in SHAPES:
            rows += await take(replicas, gateways, machine)
            progress.advance(task)
    return rows


def measure(rounds: int) -> list[Row]:
    """Once, however many rounds: two minutes and a half."""
    logging.configure("error", json=True)
    return asyncio.run(_measure(describe_machine()))
