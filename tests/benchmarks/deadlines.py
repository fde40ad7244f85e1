"""Deadlines under overload: nothing starts after its deadline, and who is too late hears it in time.

10,000 calls at three times the rate that the model can answer, each with a random deadline, stamped as the gateway does it:
the client's own timer is far off, so that what is measured is the server's. The service is `recording_service.py`, which
notes when the session began with which call; one intra-op thread, native front, all settings at their defaults.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import grpc
from google.protobuf.wrappers_pb2 import BytesValue
from rich.progress import Progress

from cli.place import models_dir
from shared.rpc.deadline import DEADLINE_HEADER
from shared.settings import state_dir
from tests.benchmarks.generator import Stream
from tests.benchmarks.open_loop import Run, latencies_s, open_loop, percentile
from tests.benchmarks.recording_service import METHOD
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row, describe_machine, judge
from tests.support.stub import call
from tests.support.waiting import within

# At ten rounds and more; a thousand a round below.
CALLS, CALLS_A_ROUND = 10_000, 1_000
# From what no run can keep to what a queue of a few runs does, in multiples of one run.
SHORTEST, LONGEST = 0.2, 10.0
# A message of this size names no model in its first bytes, whatever they are.
BODY_BYTES = 256
# What a retry is told by its own timeout, and what is left by the stamp that both attempts carry (seconds).
TIMEOUT_S, LEFT_S = 0.8, 0.5


def find_pace(run: Run) -> tuple[float, float]:
    """Median latency of calls one at a time, and the calls a second that the model answers when one always waits."""
    run(2.0, [Stream("tenant", callers=1)])
    run_s = percentile(latencies_s(run(4.0, [Stream("tenant", callers=1)]).streams[0]), 0.5)
    full = run(6.0, [Stream("tenant", callers=4)])
    return run_s, len(full.streams[0].codes) / full.wall_s


def count_late_starts(
    recorded: list[tuple[float, list[int]]], deadlines: Mapping[str, float]
) -> tuple[int, int]:
    """Calls whose run began after their deadline, and calls that were run."""
    starts = [(at_s, deadlines[str(number)]) for at_s, numbers in recorded for number in numbers]
    return sum(at_s > deadline_s for at_s, deadline_s in starts), len(starts)


async def ask_left(channel: grpc.aio.Channel) -> float:
    """What a replica believes is left of a call that was stamped some time before this attempt."""
    stamp = str(int((time.time() + LEFT_S) * 1000))
    value = await call(channel, "Left", timeout=TIMEOUT_S, metadata=((DEADLINE_HEADER, stamp),))
    return float(json.loads(value))


def measure(rounds: int) -> list[Row]:
    """One row a figure."""
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Row]:
    calls = min(CALLS, CALLS_A_ROUND * rounds)
    parts = max(1, calls // CALLS_A_ROUND)
    settings = {"inference__models_dir": str(models_dir(state_dir(), "nlp"))}
    late_starts = runs = sent = expired = 0
    lateness_ms: list[float] = []
    left: list[float] = []
    codes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        task = progress.add_task("calls", total=parts)
        body = Path(folder) / "body"
        body.write_bytes(BytesValue(value=bytes(BODY_BYTES)).SerializeToString())
        async with running_replica("tests.benchmarks.recording_service", "recording", **settings) as replica:
            with open_loop(replica.address, METHOD, body) as run:
                run_s, most = find_pace(run)
                rate = 3 * most
                span = (SHORTEST * run_s, LONGEST * run_s)
                await within(call(replica.channel, "Recorded"))
                for _ in range(parts):
                    stream = Stream("tenant", rate, deadlines_s=span, numbered=True, poisson=True)
                    (said,) = run(CALLS_A_ROUND / rate, [stream]).streams
                    recorded = json.loads(await within(call(replica.channel, "Recorded")))
                    late, begun = count_late_starts(recorded, said.deadlines)
                    late_starts, runs, sent = late_starts + late, runs + begun, sent + len(said.codes)
                    for code, late_s in zip(said.codes, said.late_s, strict=True):
                        codes[code] = codes.get(code, 0) + 1
                        # Those who are told at once that there is no hope are not late.
                        if code == "DEADLINE_EXCEEDED" and late_s >= 0:
                            expired += 1
                            lateness_ms.append(late_s * 1e3)
                    left.append(await within(ask_left(replica.channel)))
                    progress.advance(task)
    how = (
        f"{sent} calls, Poisson, at 3 x the {most:.1f} a second that can be answered, deadlines of {SHORTEST:g} to"
        f" {LONGEST:g} runs of {run_s * 1e3:.1f} ms; {codes}; {describe_machine()}"
    )
    p99_ms = percentile(lateness_ms, 0.99)
    retried = f"stamped {TIMEOUT_S - LEFT_S:.1f} s ago, sent again with grpc-timeout {TIMEOUT_S:g} s; {how}"
    return [
        Row(
            "deadlines/started after expiry",
            late_starts,
            late_starts,
            late_starts,
            "calls",
            "== 0",
            late_starts == 0,
            f"{runs} were run, noted just before the session runs them; {how}",
        ),
        Row(
            "deadlines/DEADLINE_EXCEEDED late, p99",
            p99_ms,
            p99_ms,
            p99_ms,
            "ms",
            "<= 20",
            p99_ms <= 20 if lateness_ms else "undecided",
            f"of {expired} that came after the deadline; {how}",
        ),
        judge("deadlines/left for a retry", left, "s", retried, at_most=LEFT_S),
    ]
