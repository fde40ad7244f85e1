"""Versions that follow one another under load, versions that must not serve, and memory that comes back.

A replica of its own serves copies of a pulled model; callers call it straight, tensors and typed calls alike, while one
version after another is renamed into its folder. Every call must be answered, and by when they were begun none may get an
older version than one begun before it: all calls of a kind go over one connection in the order in which they begin. Damaged
versions must be refused, each with its own reason, while the old one answers. Then each pulled model is unloaded and
loaded again, and resident memory of the process is taken before, between and after.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
from rich.progress import Progress
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from cli.place import models_dir
from shared.settings import state_dir
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row, describe_machine, median_interval
from tests.support.artifact_copy import copy_version, flip_bit, make_opset_99, remove_graph, truncate
from tests.support.service_process import STATES

SERVICE, MODEL = "nlp", "minilm"
SWAPS = 50
CALLERS = 4  # of each kind
TEXT = "A version takes over while this is read."
# How long one swap may take: some 2 s on two cores that answer calls as well.
SWAP_S = 60.0
# Longest that memory may take to come back: the last call ends, threads end, pages go.
BACK_S = 5.0
BAD = {
    "bit_flipped": flip_bit,
    "truncated": truncate,
    "opset_99": make_opset_99,
    "missing_file": remove_graph,
}
GIVEN_BACK = 0.9
Statuses: TypeAlias = Sequence[replica_service_pb2.ModelStatus]
Condition: TypeAlias = Callable[[Statuses], bool]
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Calls:
    """What callers saw: when each call began, the version that answered, and what went wrong."""

    begun: list[tuple[float, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def count_back(self) -> int:
        """Calls that were answered by an older version than one that was begun before them."""
        newest, back = 0, 0
        for _, version in sorted(self.begun):
            back += version < newest
            newest = max(newest, version)
        return back


@dataclass(frozen=True)
class Serving:
    """A replica in a process of its own."""

    pid: int
    channel: grpc.aio.Channel
    models: Path

    async def wait_for(self, condition: Condition) -> Statuses:
        """Wait until what the replica says of its models fulfils a condition; gives what it says then."""
        stub = replica_service_pb2_grpc.ReplicaServiceStub(self.channel)
        watch = stub.StreamingWatchReplica(replica_service_pb2.StreamingWatchReplicaRequest())
        async with asyncio.timeout(SWAP_S):
            async for snapshot in watch:
                if condition(snapshot.models):
                    watch.cancel()
                    return snapshot.models
        raise SystemExit("the replica ended")

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES


@asynccontextmanager
async def serving(service: str, models: Path, **settings: str) -> AsyncIterator[Serving]:
    """A replica of a service over a models' folder, all loaded. settings: the ends of its variables, in lower case."""
    async with running_replica(f"services.{service}", service, models=models, **settings) as replica:
        yield Serving(replica.pid, replica.channel, models)


def make_tensor_call(serving: Serving) -> Callable[[], Awaitable[int]]:
    """A call of the protocol for one sentence; gives the version that answered."""
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(serving.channel)
    request = inference_pb2.ModelInferRequest(model_name=MODEL)
    for name in ("input_ids", "attention_mask"):
        request.inputs.add(name=name, datatype="INT64", shape=[1, 16])
        request.raw_input_contents.append(np.ones((1, 16), np.int64).tobytes())

    async def call() -> int:
        return int((await stub.ModelInfer(request, timeout=30)).model_version)

    return call


def make_typed_call(serving: Serving) -> Callable[[], Awaitable[int]]:
    """A typed call for one sentence; gives the version that answered."""
    stub = nlp_service_pb2_grpc.NlpServiceStub(serving.channel)
    request = nlp_service_pb2.EmbedTextRequest(texts=[TEXT])

    async def call() -> int:
        return int((await stub.EmbedText(request, timeout=30)).model.version)

    return call


@asynccontextmanager
async def calling(*calls: Callable[[], Awaitable[int]]) -> AsyncIterator[list[Calls]]:
    """Callers of each kind, one call in flight each, until the block ends; what they saw is complete then."""
    seen = [Calls() for _ in calls]
    ended = asyncio.Event()

    async def keep_calling(call: Callable[[], Awaitable[int]], into: Calls) -> None:
        while not ended.is_set():
            begun_s = time.monotonic()
            try:
                into.begun.append((begun_s, await call()))
            except grpc.aio.AioRpcError as error:
                into.lost.append(f"{error.code().name}: {error.details()}")
            into.longest_s = max(into.longest_s, time.monotonic() - begun_s)

    async with asyncio.TaskGroup() as group:
        for call, into in zip(calls, seen, strict=True):
            for _ in range(CALLERS):
                group.create_task(keep_calling(call, into))
        try:
            yield seen
        finally:
            ended.set()


def is_refused(version: str) -> Condition:
    """Whether that version is there and does not serve."""
    return lambda models: any(
        model.version == version and model.state == STATES.STATE_UNAVAILABLE for model in models
    )


def is_ready(version: str) -> Condition:
    """Whether that version is the only one that is ready."""
    return lambda models: (
        [model.version for model in models if model.state == STATES.STATE_READY and model.name == MODEL]
        == [version]
    )


async def swap(front: str, swaps: int, progress: Callable[[], None]) -> list[Row]:
    """Hot swaps under load on one front."""
    source = find_version(SERVICE, MODEL)
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch)
        copy_version(source, models, "1")
        async with serving(SERVICE, models, rpc__front=front, inference__watch_s="0.1") as replica:
            begun_s = time.monotonic()
            async with calling(make_tensor_call(replica), make_typed_call(replica)) as seen:
                for number in range(2, swaps + 2):
                    copy_version(source, models, str(number))
                    await replica.wait_for(is_ready(str(number)))
                    remove_version(models / MODEL / str(number - 1))
                    progress()
            took_s = time.monotonic() - begun_s
    tensors, typed = seen
    how = f"{swaps} swaps of {MODEL}, {2 * CALLERS} callers, {front} front, {describe_machine()}"
    reasons = "; ".join(sorted({*tensors.lost, *typed.lost})[:3])
    rows = [_count(f"swap/{front}/swaps", swaps, "swaps", SWAPS, how)]
    for kind, calls in (("tensors", tensors), ("typed", typed)):
        seen_versions = len({version for _, version in calls.begun})
        rows += [
            _count(f"swap/{front}/{kind}/calls_lost", len(calls.lost), "calls", 0, reasons or how),
            _count(
                f"swap/{front}/{kind}/versions_back",
                calls.count_back(),
                "calls",
                0,
                f"by when they began; {seen_versions} versions answered; {how}",
            ),
            _plain(f"swap/{front}/{kind}/calls", len(calls.begun), "calls", how),
            _plain(f"swap/{front}/{kind}/longest_call", calls.longest_s, "s", how),
        ]
    return [*rows, _plain(f"swap/{front}/swap", took_s / swaps, "s", how)]


async def refuse() -> list[Row]:
    """Versions that must not serve, each put in place under load."""
    source = find_version(SERVICE, MODEL)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch)
        copy_version(source, models, "1")
        async with serving(SERVICE, models, inference__watch_s="0.1") as replica:
            for number, (name, damage) in enumerate(BAD.items(), 2):
                async with calling(make_tensor_call(replica), make_typed_call(replica)) as seen:
                    copy_version(source, models, str(number), damage)
                    told = await replica.wait_for(is_refused(str(number)))
                    # The callers go on for a while on what serves.
                    await asyncio.sleep(0.2)
                wrong = [one for calls in seen for one in calls.lost]
                wrong += [f"version {v} answered" for calls in seen for _, v in calls.begun if v != 1]
                reason = next(model.reason for model in told if model.version == str(number))
                holds = bool(reason) and not wrong and all(calls.begun for calls in seen)
                how = wrong[0] if wrong else reason
                rows.append(
                    Row(f"swap/refused/{name}", float(holds), None, None, "refused", "== 1", holds, how)
                )
    return rows


async def give_back(service: str, rounds: int, progress: Callable[[], None]) -> list[Row]:
    """Resident memory over loading and unloading each model of a service, one at a time.

    The others are unloaded, for they take and give back memory of their own between their runs; and each was loaded
    once before, so that what stays with the first use of the runtime is not taken for the model's.
    """
    rows = []
    names = sorted(path.name for path in models_dir(state_dir(), service).iterdir() if path.is_dir())
    async with serving(service, models_dir(state_dir(), service), inference__watch_s="0") as replica:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(replica.channel)
        for name in names:
            request = inference_pb2.RepositoryModelUnloadRequest(model_name=name)
            await stub.RepositoryModelUnload(request, timeout=SWAP_S)
        await _rest(replica)
        for name in names:
            shares, taken = [], []
            load = inference_pb2.RepositoryModelLoadRequest(model_name=name)
            unload = inference_pb2.RepositoryModelUnloadRequest(model_name=name)
            for _ in range(rounds):
                before = replica.resident_bytes()
                await stub.RepositoryModelLoad(load, timeout=SWAP_S)
                after = replica.resident_bytes()
                await stub.RepositoryModelUnload(unload, timeout=SWAP_S)
                await _settle(
                    replica,
                    lambda after=after, before=before: (
                        after - replica.resident_bytes() >= GIVEN_BACK * (after - before)
                    ),
                )
                shares.append((after - replica.resident_bytes()) / (after - before))
                taken.append((after - before) / 1e6)
                progress()
            value, low, high = median_interval(shares)
            holds = True if low >= GIVEN_BACK else False if high < GIVEN_BACK else "undecided"
            how = f"loading took {median_interval(taken)[0]:.1f} MB, {rounds} rounds, {describe_machine()}"
            rows.append(
                Row(
                    f"swap/given_back/{name}",
                    value,
                    low,
                    high,
                    "of what loading took",
                    f">= {GIVEN_BACK:g}",
                    holds,
                    how,
                )
            )
    return rows


async def _rest(replica: Serving) -> None:
    """Wait until memory rests: sessions give back what runs took some seconds after their last one."""
    resident, calm = replica.resident_bytes(), 0
    async with asyncio.timeout(SWAP_S):
        while calm < 6 * BACK_S:
            await asyncio.sleep(0.2)
            now = replica.resident_bytes()
            calm = calm + 1 if abs(now - resident) < 200_000 else 0
            resident = now


async def _settle(replica: Serving, condition: Callable[[], bool]) -> None:
    """Look at memory until it is as wanted, or the time is up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(BACK_S):
            while not condition():
                await asyncio.sleep(0.05)


def find_version(service: str, model: str) -> Path:
    """The folder of a pulled model's only version."""
    folder = models_dir(state_dir(), service) / model
    try:
        return next(path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    except (FileNotFoundError, StopIteration):
        raise SystemExit(f"{service}/{model} is not pulled: run `sensorium models pull {model}`") from None


def remove_version(folder: Path) -> None:
    """Take a version away as it was put there, in one step."""
    hidden = folder.with_name(f".old-{folder.name}")
    folder.rename(hidden)
    for path in hidden.iterdir():
        path.unlink()
    hidden.rmdir()


def measure(rounds: int) -> list[Row]:
    """Swaps on both fronts (50 at ten rounds, five a round below), refusals, and memory of every model."""
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Row]:
    swaps = min(SWAPS, 5 * rounds)
    services = ("vision", "nlp", "speech")
    models = sum(
        1 for service in services for path in models_dir(state_dir(), service).iterdir() if path.is_dir()
    )
    rows: list[Row] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=2 * swaps + models * rounds)
        advance: Callable[[], None] = lambda: progress.advance(task)  # noqa: E731
        for front in ("native", "grpcio"):
            rows += await swap(front, swaps, advance)
        rows += await refuse()
        for service in services:
            rows += await give_back(service, rounds, advance)
    return rows


def _count(name: str, value: int, unit: str, wanted: int, how: str) -> Row:
    return Row(name, value, value, value, unit, f"== {wanted}", value == wanted, how)


def _plain(name: str, value: float, unit: str, how: str) -> Row:
    return Row(name, value, value, value, unit, "", "no bar", how)
