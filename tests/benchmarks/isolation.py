"""Models that hang and crash behind the gateway, and what that costs the others; and what guarding a run costs.

A mesh has two replicas of a service with a model that loops until it is told to end, one that does not hear that, and one
that ends its process. Callers call another model of the same replicas, and one of another service, without a pause. Each
round has one fault of each kind; whoever was quarantined is released after it. Other callers must lose nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from shared.inference.isolation.isolation import Isolation
from shared.inference.isolation.record import Record, record_folder
from shared.inference.isolation.settings import IsolationSettings
from shared.inference.session.session import RunOptions
from tests.benchmarks.report import Row, describe_machine, judge
from tests.mesh.hostile import LIMIT_S, Caller, calling, running, see_other
from tests.mesh.losing import Losses, keep_calling
from tests.mesh.running import RunningMesh, replica_pids
from tests.shared.inference.graphs import slow
from tests.shared.inference.isolation.graphs import HOURS, LOWEST, crashing, deaf

FOR_EVER = 2**40
REPLICAS = 2
CALLERS = 4
RUNS = 100_000
# What a guard may cost a run.
GUARD_US = 2.0
RUN_TIMEOUT_S, GRACE_S = 0.5, 0.5
Fault = Callable[[RunningMesh, Caller], Awaitable[None]]


@dataclass
class Seen:
    """What came of one kind of fault."""

    faults: int = 0
    calls: int = 0
    lost: list[str] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)


def measure(rounds: int) -> list[Row]:
    """Rows of the topic `isolation`."""
    rows = [asyncio.run(measure_guard(rounds))]
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        task = progress.add_task("isolation", total=rounds * len(FAULTS))
        environ = {
            "SENSORIUM_NLP_INFERENCE__ISOLATION__RUN_TIMEOUT_S": str(RUN_TIMEOUT_S),
            "SENSORIUM_NLP_INFERENCE__ISOLATION__GRACE_S": str(GRACE_S),
        }
        models = {"slow": slow(), "deaf": deaf(), "crashing": crashing()}
        with running(Path(folder), "--replicas", f"nlp={REPLICAS}", environ=environ, **models) as mesh:
            found = asyncio.run(provoke(mesh, rounds, lambda: progress.advance(task)))
    for name, seen in found.items():
        how = (
            f"{seen.faults} faults, {seen.calls} calls by {CALLERS} callers of another model of the same {REPLICAS} "
            f"replicas and one of another service; a run may take {RUN_TIMEOUT_S:g} s; {describe_machine()}"
        )
        lost = float(len(seen.lost))
        more = f"; lost: {', '.join(sorted(set(seen.lost))[:3])}" if seen.lost else ""
        rows.append(Row(f"isolation/{name}/lost", lost, lost, lost, "calls", "== 0", not lost, how + more))
        waits = "; whoever lived less than 10 s is started again after a wait that doubles"
        rows.append(judge(f"isolation/{name}/whole_again", seen.back_s, "s", how + waits))
    return rows


async def measure_guard(rounds: int) -> Row:
    """Microseconds that a guard costs a run."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        isolation = Isolation(Path(folder), "bench", IsolationSettings())
        guard = isolation.guard("model", "1", "model", "sha256:1")
        options = RunOptions()
        for _ in range(max(rounds, 3)):
            started_s = time.thread_time()
            for _ in range(RUNS):
                guard.begin(options, 0.01)
                guard.end()
            samples.append((time.thread_time() - started_s) / RUNS * 1e6)
        guard.close()
        isolation.close()
    how = f"{RUNS} times begin and end, with the marker's file mapped; {describe_machine()}"
    return judge("isolation/guard", samples, "us per run", how, at_most=GUARD_US)


async def provoke(mesh: RunningMesh, rounds: int, progress: Callable[[], None]) -> dict[str, Seen]:
    """Each fault once a round, under callers that do not pause."""
    found = {name: Seen() for name in FAULTS}
    record = Record(record_folder(mesh.state, "nlp"), blame_s=IsolationSettings().blame_s)
    async with calling(mesh) as caller:
        for _ in range(rounds):
            for name, (model, fault) in FAULTS.items():
                await caller.see(f"nlp/{model}", ready=REPLICAS)
                async with watching(caller, found[name]):
                    await fault(mesh, caller)
                    begun_s = time.monotonic()
                    await caller.see("nlp/line", ready=REPLICAS)
                    found[name].back_s.append(time.monotonic() - begun_s)
                found[name].faults += 1
                record.release(model)
                progress()
    return found


@asynccontextmanager
async def watching(caller: Caller, seen: Seen) -> AsyncIterator[None]:
    """Callers of another model, as long as the block lasts."""
    losses, stopped = Losses(), asyncio.Event()
    others = [
        asyncio.create_task(keep_calling(lambda: caller.call_line("nlp"), losses, stopped))
        for _ in range(CALLERS)
    ]
    try:
        yield
    finally:
        stopped.set()
        async with asyncio.timeout(LIMIT_S):
            await asyncio.gather(*others)
    seen.calls += losses.calls
    seen.lost += [text for text, count in losses.lost.items() for _ in range(count)]


async def hang(mesh: RunningMesh, caller: Caller) -> None:
    """A run that stops when it is told to."""
    await caller.fail("nlp/slow", FOR_EVER, timeout_s=2 * RUN_TIMEOUT_S)


async def hang_deaf(mesh: RunningMesh, caller: Caller) -> None:
    """A run that does not stop, so that its replica restarts; its caller has no time for a second one."""
    before = set(replica_pids(mesh)["nlp"])
    await caller.fail("nlp/deaf", HOURS, timeout_s=1.5 * RUN_TIMEOUT_S)
    await see_other(mesh, before)


async def crash(mesh: RunningMesh, caller: Caller) -> None:
    """A run that ends its replica."""
    before = set(replica_pids(mesh)["nlp"])
    await caller.fail("nlp/crashing", LOWEST)
    await see_other(mesh, before)


# The model of each, and what is done to it.
FAULTS: dict[str, tuple[str, Fault]] = {
    "hang": ("slow", hang),
    "hang_that_does_not_stop": ("deaf", hang_deaf),
    "crash": ("crashing", crash),
}
