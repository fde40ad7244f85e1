"""What is left behind: memory after 300,000 calls, and tasks, slots and bytes after callers who went away.

One replica of the text service with a tiny model beside the pulled ones, logs and metrics on. Memory is resident memory of
its process. One call in two hundred is a typed one that embeds texts, the others run the tiny model over the Open Inference
Protocol. The callers who leave cancel at a random moment of a call that would be answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from rich.progress import Progress
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from cli.place import models_dir
from shared.inference.artifact import write_artifact
from shared.settings import state_dir
from tests.benchmarks.load import require_h2load, run_load, write_body
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row, describe_machine
from tests.benchmarks.tiny import METHODS, MODEL, make_request
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.waiting import within

CALLS, WARM_UP, CANCELS = 300_000, 30_000, 1_000
CALLERS = 32
# Typed calls cost a hundred times as much as the others.
TYPED_SHARE = 0.005
GROWTH_MB = 5.0
CALL_S, ROUND_S = 30.0, 600.0
# What a slot that is free says of itself.
IDLE = ("sensorium_rpc_inflight_calls", "sensorium_rpc_admitted_calls", "sensorium_rpc_admitted_bytes")
IDLE_MODELS = ("sensorium_inference_queue_items", "sensorium_inference_running_items")
TASKS = "sensorium_rpc_tasks"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Soaked:
    """The replica, and how it is called and looked at."""

    address: str
    metrics: str
    pid: int
    tensors: inference_pb2_grpc.GRPCInferenceServiceStub
    texts: nlp_service_pb2_grpc.NlpServiceStub
    body: Path

    def resident_mb(self) -> float:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * _PAGE_BYTES / 1e6

    async def count_busy(self, tasks: float = 0.0) -> dict[str, float]:
        """Calls, permits, bytes and items that it says it holds, without the watches that never end; and tasks, if they are
        more than `tasks`.
        """
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await within(client.get(f"http://{self.metrics}/metrics"))).text
        busy: dict[str, float] = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            metric = name.partition("{")[0]
            if metric in (*IDLE, *IDLE_MODELS) and "Watch" not in name and float(value):
                busy[name] = float(value)
            if metric == TASKS and float(value) > tasks:
                busy[name] = float(value) - tasks
        return busy


@asynccontextmanager
async def soaking(folder: Path) -> AsyncIterator[Soaked]:
    """The text service over the pulled models and the tiny one."""
    models = folder / "models"
    shutil.copytree(models_dir(state_dir(), "nlp"), models, symlinks=True)
    write_artifact(models, entry_of(MODEL, service="nlp"), draft_of(linear(64)))
    metrics = f"127.0.0.1:{find_port()}"
    async with running_replica(
        "services.nlp", "nlp", models=models, log_level="warning", rpc__metrics_address=metrics
    ) as replica:
        yield Soaked(
            replica.address,
            metrics,
            replica.pid,
            inference_pb2_grpc.GRPCInferenceServiceStub(replica.channel),
            nlp_service_pb2_grpc.NlpServiceStub(replica.channel),
            write_body(make_request(), folder / "body"),
        )


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def call_many(replica: Soaked, calls: int) -> None:
    """So many calls; every one must be answered."""
    typed = int(calls * TYPED_SHARE)
    tiny = asyncio.to_thread(
        run_load,
        replica.address,
        METHODS["unary"],
        replica.body,
        callers=CALLERS,
        requests=calls - typed,
    )
    texts = ["A sentence that is read again and again.", "Ein Satz.", "Une phrase qui revient."]

    async def call_typed(count: int) -> None:
        for at in range(count):
            request = nlp_service_pb2.EmbedTextRequest(texts=texts[: 1 + at % len(texts)])
            await replica.texts.EmbedText(request, timeout=CALL_S)

    await within(asyncio.gather(tiny, *(call_typed(typed // 4) for _ in range(4))), ROUND_S)


async def leave_early(replica: Soaked, calls: int, seed: int) -> int:
    """So many calls, each cancelled at a random moment of the time that it would take. Gives how many were not done yet."""
    chance = random.Random(seed)
    message = inference_pb2.ModelInferRequest.FromString(make_request())
    text = nlp_service_pb2.EmbedTextRequest(texts=["A sentence that nobody waits for."] * 4)
    makes: list[tuple[Callable[[], Awaitable[object]], float]] = [
        (lambda: replica.tensors.ModelInfer(message, timeout=CALL_S), 0.005),
        (lambda: replica.texts.EmbedText(text, timeout=CALL_S), 0.1),
    ]
    cancelled, left = 0, calls

    async def leave() -> None:
        nonlocal cancelled
        make, most_s = makes[chance.random() < 0.5]
        call = asyncio.ensure_future(make())
        await asyncio.sleep(chance.uniform(0, most_s))
        if call.cancel():
            cancelled += 1
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call

    async def leave_often() -> None:
        nonlocal left
        while left:
            left -= 1
            await leave()

    await within(asyncio.gather(*(leave_often() for _ in range(CALLERS))), ROUND_S)
    return cancelled


async def settle(replica: Soaked, tasks: float) -> dict[str, float]:
    """What the replica still holds a moment after the last call: runs that nobody waits for end by themselves."""
    busy: dict[str, float] = {}
    for _ in range(100):
        busy = await replica.count_busy(tasks)
        if not busy:
            break
        await asyncio.sleep(0.1)
    return busy


async def soak(folder: Path) -> list[Row]:
    """Memory first, and then the callers who leave."""
    machine = describe_machine()
    with Progress(transient=True) as progress:
        task = progress.add_task("soaking", total=CALLS + WARM_UP)
        async with soaking(folder) as replica:
            await call_many(replica, WARM_UP)
            # The texts of so many callers at once make larger batches than those above.
            await leave_early(replica, CANCELS // 2, seed=0)
            progress.advance(task, WARM_UP)
            before_mb, peaks = replica.resident_mb(), []
            for _ in range(10):
                await call_many(replica, CALLS // 10)
                progress.advance(task, CALLS // 10)
                peaks.append(replica.resident_mb())
            growth_mb = peaks[-1] - before_mb
            tasks = (await replica.count_busy())[TASKS]
            cancelled = await leave_early(replica, CANCELS, seed=1)
            busy = await settle(replica, tasks)
            after_mb = replica.resident_mb() - peaks[-1]
    steps = ", ".join(f"{peak - before_mb:+.1f}" for peak in peaks)
    how = f"{before_mb:.0f} MB after {WARM_UP} calls, then {steps} MB every {CALLS // 10}; {machine}"
    held = "; ".join(f"{name} {value:g}" for name, value in busy.items()) or "nothing"
    left = f"{cancelled} of {CANCELS} calls were cancelled before their answer; held afterwards: {held}"
    return [
        Row(
            "soak/memory_growth",
            growth_mb,
            growth_mb,
            growth_mb,
            "MB",
            f"<= {GROWTH_MB:g}",
            growth_mb <= GROWTH_MB,
            how,
        ),
        Row(
            "soak/held_after_cancels",
            len(busy),
            len(busy),
            len(busy),
            "gauges above 0",
            "== 0",
            not busy,
            left,
        ),
        Row(
            "soak/memory_growth_by_cancels",
            after_mb,
            after_mb,
            after_mb,
            "MB",
            f"<= {GROWTH_MB:g}",
            after_mb <= GROWTH_MB,
            f"{CANCELS} calls cancelled at random moments, {machine}",
        ),
    ]


def measure(rounds: int) -> list[Row]:
    """Once, whatever the rounds: memory has no interval."""
    require_h2load()
    with tempfile.TemporaryDirectory() as scratch:
        return asyncio.run(soak(Path(scratch)))
