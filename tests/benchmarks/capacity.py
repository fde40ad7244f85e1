"""What one core answers: CPU, throughput, latency and memory of every typed rpc, and what the gateway adds.

A replica of each service, all models loaded, on one core that they have for themselves; the generators on the others. Each
round takes every call at one caller, at eight, and in an open loop of random arrivals, as many as would keep the core busy
for 70 % of the time if each cost what it costs alone; some also for 50 and 85 %, to try the formula of `queueing`. Every
second round goes backwards. The gateway is measured in a mesh before that. `sizing` makes the tables of deploy/sizing.md
out of the rows.

make bench ARGS="--only capacity --rounds 6"   ten minutes where nothing else runs
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from shared.settings import state_dir
from tests.benchmarks import gateway_cost
from tests.benchmarks.generator import Stream
from tests.benchmarks.load import require_h2load, run_load, write_body
from tests.benchmarks.memory import read_peak_bytes, read_resident_bytes, reset_peak
from tests.benchmarks.open_loop import Run, latencies_s, open_loop, percentile
from tests.benchmarks.queueing import Demand, predict
from tests.benchmarks.replica import RunningReplica, running_replica
from tests.benchmarks.report import Row, describe_machine, judge
from tests.benchmarks.workload import SERVICES, Case, make_cases

CALLERS = 8
# Seconds of each part of a round, or some calls where one takes longer.
ALONE_S, BUSY_S, OPEN_S = 0.5, 1.0, 2.5
# An open loop must see so many calls a round for a quantile to come of it; it lasts longer for that, within bounds.
OPEN_CALLS, LONGEST_OPEN_S = 25, 4.0
LOADS = (0.5, 0.7, 0.85)
USUAL = 0.7
# Where the formula is tried: calls of 2, 5, 10 and 40 ms; the first two batch well, the others hardly.
TRIED = ("RecognizeCommand", "EmbedText", "ClassifyImage", "DetectFaces")
# Quantiles, and how many calls of a round one takes.
QUANTILES = {0.5: 10, 0.95: 20, 0.99: 100}
_MB = 1e6
# Ends what was sent, in a row's `how`.
BREAK = "; sent to "


@dataclass
class Taken:
    """What the rounds gave of one call; one entry a round."""

    cpu_s: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of the replica for one call, by callers."""
    alone_s: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    took_s: dict[float, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    """Of the calls of open loops, by load; none where too few fit."""
    refused: int = 0


def read_clock_s(pid: int) -> float:
    """CPU time of a process and all its threads, to the nanosecond (`clock_getcpuclockid`)."""
    return time.clock_gettime((~pid << 3) | 2)


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Whatever this thread starts meanwhile runs on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def split_cores() -> tuple[set[int], set[int]]:
    """The replicas' core, and those of all else."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("capacity is measured on two cores or more: one is the replica's")
    return {cores[-1]}, set(cores[:-1])


class Measured:
    """One call of a running replica: how it is asked."""

    def __init__(self, case: Case, replica: RunningReplica, body: Path, run: Run) -> None:
        self.case = case
        self.taken = Taken()
        self._replica = replica
        self._body = body
        self._run = run
        self._call_s = 0.0

    async def warm_up(self) -> None:
        """Asks until the call has settled, looks at an answer, and learns how long one takes."""
        call: Any = self._replica.channel.unary_unary(f"/{self.case.method}", None, None)
        for _ in range(3):
            began_s = time.monotonic()
            reply = await call(self.case.body, timeout=60)
            self._call_s = time.monotonic() - began_s
        self.case.check(reply)

    def take_round(self) -> None:
        """One caller, eight, then open loops."""
        self._ask_alone()
        per_s = self._close(CALLERS, max(CALLERS, round(BUSY_S / self._call_s)))
        self.taken.per_s.append(per_s)
        # Alone a call costs most: at 70 % of what a core could do at that cost it is 70 % busy at most.
        full = min(per_s, 1 / self.taken.cpu_s[1][-1])
        for load in LOADS if self.case.name in TRIED else (USUAL,):
            rate = load * full
            duration_s = max(OPEN_S, OPEN_CALLS / rate)
            if duration_s > LONGEST_OPEN_S:
                self.taken.took_s[load].append([])
                continue
            calls = self._run(duration_s, [Stream("tenant", rate, poisson=True)]).streams[0]
            self.taken.took_s[load].append(latencies_s(calls))
            self.taken.refused += len(calls.codes) - calls.codes.count("OK")

    def _ask_alone(self) -> None:
        # By the generator of the open loops, whose own time is in their latencies as well.
        before_s = read_clock_s(self._replica.pid)
        calls = self._run(max(ALONE_S, 1.5 * self._call_s), [Stream("tenant", callers=1)]).streams[0]
        spent_s = read_clock_s(self._replica.pid) - before_s
        self.taken.cpu_s[1].append(spent_s / len(calls.codes))
        self.taken.alone_s.append(sum(calls.took_s) / len(calls.took_s))
        self.taken.refused += len(calls.codes) - calls.codes.count("OK")

    def _close(self, callers: int, requests: int) -> float:
        before_s = read_clock_s(self._replica.pid)
        load = run_load(
            self._replica.address, self.case.method, self._body, callers=callers, requests=requests
        )
        self.taken.cpu_s[callers].append((read_clock_s(self._replica.pid) - before_s) / requests)
        return load.per_s


@contextlib.asynccontextmanager
async def running_replicas(core: set[int]) -> AsyncIterator[dict[str, RunningReplica]]:
    """One of each service, all on the same core: only one is asked at a time."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = {}
        for service in SERVICES:
            with on_cores(core):
                opened = running_replica(f"services.{service}", service)
                replicas[service] = await stack.enter_async_context(opened)
        yield replicas


async def _measure(
    rounds: int, cases: Sequence[Case]
) -> tuple[dict[str, Taken], dict[str, dict[str, float]]]:
    core, others = split_cores()
    memory: dict[str, dict[str, float]] = {}
    async with running_replicas(core) as replicas:
        for service, replica in replicas.items():
            memory[service] = {"loaded": read_resident_bytes(replica.pid)}
            reset_peak(replica.pid)
        with (
            on_cores(others),
            tempfile.TemporaryDirectory() as folder,
            contextlib.ExitStack() as stack,
            Progress(transient=True) as progress,
        ):
            plan = []
            for number, case in enumerate(cases):
                replica = replicas[case.service]
                encoded = Path(folder) / f"{number}"
                encoded.write_bytes(case.body)
                run = stack.enter_context(open_loop(replica.address, case.method, encoded))
                framed = write_body(case.body, Path(folder) / f"{number}.frame")
                plan.append(Measured(case, replica, framed, run))
                await plan[-1].warm_up()
            task = progress.add_task("measuring", total=rounds * len(plan))
            for n in range(rounds):
                for measured in plan if n % 2 == 0 else reversed(plan):
                    measured.take_round()
                    progress.advance(task)
        for service, replica in replicas.items():
            memory[service]["peak"] = read_peak_bytes(replica.pid)
    return {measured.case.name: measured.taken for measured in plan}, memory


def predict_s(alone_s: float, core_s: float, load: float, share: float) -> float:
    """What the formula says of a call's latency: alone, and the waiting at this load."""
    return alone_s + predict(1, Demand(load / core_s, core_s, 0.0)).quantile_s(share)


def make_rows(taken: Mapping[str, Taken], requests: Mapping[str, str], machine: str) -> Iterator[Row]:
    """The rows of the calls."""
    for name, it in taken.items():
        how = f"{requests[name]}{BREAK}one replica on one core, defaults; {machine}"
        for callers, samples in it.cpu_s.items():
            yield judge(f"capacity/{name}/cpu_{callers}", [1e3 * s for s in samples], "ms/call", how)
        yield judge(
            f"capacity/{name}/alone", [1e3 * s for s in it.alone_s], "ms", f"{how}; mean of one caller"
        )
        yield judge(f"capacity/{name}/throughput", it.per_s, "calls/s", f"{how}; {CALLERS} callers")
        for load, rounds_s in it.took_s.items():
            said = f"{how}; open loop, random arrivals, core {load:.0%} busy at most, {sum(map(len, rounds_s))} calls"
            for share, fewest in QUANTILES.items():
                row = f"capacity/{name}/p{share * 100:.0f}_at_{load:g}"
                if min(map(len, rounds_s)) < fewest:
                    yield Row(row, None, None, None, "ms", "", "not measured", f"{said}: too few")
                    continue
                measured_s = [percentile(took_s, share) for took_s in rounds_s]
                yield judge(row, [1e3 * s for s in measured_s], "ms", said)
                if name in TRIED and share < 0.99:
                    by_s = [predict_s(*of, load, share) for of in zip(it.alone_s, it.cpu_s[1], strict=True)]
                    over = [s / by for s, by in zip(measured_s, by_s, strict=True)]
                    yield judge(f"{row}_over_formula", over, "x", f"{said}; formula: alone + M/D/1")
        yield Row(
            f"capacity/{name}/refused",
            it.refused,
            None,
            None,
            "calls",
            "== 0",
            it.refused == 0,
            f"{how}; open loops",
        )


def make_memory_rows(memory: Mapping[str, Mapping[str, float]], machine: str) -> Iterator[Row]:
    """The rows of the replicas' memory."""
    for service, sizes in memory.items():
        for when, size in sizes.items():
            how = f"resident, all models of {service} {when}; {machine}"
            yield Row(f"capacity/memory/{service}/{when}", size / _MB, None, None, "MB", "", "no bar", how)


def describe_cpu() -> str:
    """The machine, with its processor's name where the system tells it."""
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return ", ".join([describe_machine(), *names[:1]])


def measure(rounds: int) -> list[Row]:
    """The gateway first, which is soon done, then the replicas."""
    require_h2load()
    cases = make_cases(state_dir())
    machine = describe_machine()
    beside = Row(
        "capacity/load before", os.getloadavg()[0], None, None, "processes", "", "no bar", describe_cpu()
    )
    gateway = gateway_cost.measure(rounds, cases, machine)
    taken, memory = asyncio.run(_measure(rounds, cases))
    calls = make_rows(taken, {case.name: case.said for case in cases}, machine)
    return [beside, *calls, *make_memory_rows(memory, machine), *gateway]
