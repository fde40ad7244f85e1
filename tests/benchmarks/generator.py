"""A load generator in a process of its own: open loop at a steady or random pace, or closed loop, one JSON line a run.

python -m tests.benchmarks.generator ADDRESS METHOD BODY

BODY is a file with an encoded request message. Each line on standard input is a `Plan`; each is answered with one line, a
`Result`. h2load's open loop does not tell refusals from answers (both are HTTP 200), knows no deadline that differs from
call to call, and has one stream of calls where a tenant is to be set against another. This costs some 250 µs of CPU a call,
which the result states.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc

from shared.rpc.caller import PRINCIPAL_HEADER
from shared.rpc.channel import channel
from shared.rpc.deadline import DEADLINE_HEADER

# Long beyond what any call of a measurement may take: the client's own timer must not answer for the server.
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Stream:
    """Calls of one principal: `rate` a second, or `callers` that call again when they are answered."""

    principal: str
    rate: float = 0.0
    callers: int = 0
    poisson: bool = False
    deadlines_s: tuple[float, float] | None = None
    """Bounds between which each call's deadline lies, as the gateway stamps it; None = no deadline."""
    numbered: bool = False
    """Whether calls carry their number in the first bytes of the message's last eight."""


@dataclass(frozen=True)
class Plan:
    """All streams at a time, for so long."""

    duration_s: float
    streams: tuple[Stream, ...]
    seed: int = 7


@dataclass
class Calls:
    """What became of a stream's calls, in the order in which they ended. Seconds since the start of the run."""

    due_s: list[float] = field(default_factory=list)
    """When a call was to be sent; its latency counts from here, so that a late generator hides nothing."""
    took_s: list[float] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    """Of calls with a deadline: how long after it they ended; negative before it."""
    deadlines: dict[str, float] = field(default_factory=dict)
    """Of numbered calls: the instant of the deadline, in seconds since the Unix epoch."""


@dataclass
class Result:
    """Calls of each stream, and what the generator itself took."""

    streams: list[Calls]
    wall_s: float
    cpu_s: float


class Generator:
    """Calls one method at one address."""

    def __init__(self, opened: grpc.aio.Channel, method: str, body: bytes) -> None:
        self._call: Any = opened.unary_unary(f"/{method}")
        self._body = body
        self._numbers = itertools.count()

    async def run(self, plan: Plan) -> Result:
        """Carries a plan out and waits for its last answer."""
        cpu_s, start_s = time.process_time(), time.monotonic()
        streams = await asyncio.gather(
            *(
                self._keep_open(stream, plan, random.Random(f"{plan.seed} {index}"), start_s)
                if stream.rate
                else self._keep_closed(stream, plan, start_s)
                for index, stream in enumerate(plan.streams)
            )
        )
        return Result(list(streams), time.monotonic() - start_s, time.process_time() - cpu_s)

    async def _keep_open(self, stream: Stream, plan: Plan, rng: random.Random, start_s: float) -> Calls:
        calls = Calls()
        tasks: set[asyncio.Task[None]] = set()
        for due_s in _schedule(stream, plan.duration_s, rng):
            await asyncio.sleep(max(0.0, start_s + due_s - time.monotonic()))
            span = stream.deadlines_s
            left_s = None if span is None else rng.uniform(*span)
            task = asyncio.create_task(self._send(stream, calls, start_s, due_s, left_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return calls

    async def _keep_closed(self, stream: Stream, plan: Plan, start_s: float) -> Calls:
        calls = Calls()

        async def keep_calling() -> None:
            while (now_s := time.monotonic() - start_s) < plan.duration_s:
                await self._send(stream, calls, start_s, now_s, None)

        await asyncio.gather(*(keep_calling() for _ in range(stream.callers)))
        return calls

    async def _send(
        self, stream: Stream, calls: Calls, start_s: float, due_s: float, left_s: float | None
    ) -> None:
        metadata, body = [(PRINCIPAL_HEADER, stream.principal)], self._body
        deadline_s = 0.0
        if left_s is not None:
            # As the gateway stamps it, in whole milliseconds.
            deadline_ms = int((time.time() + left_s) * 1000)
            deadline_s = deadline_ms / 1000
            metadata.append((DEADLINE_HEADER, str(deadline_ms)))
        if stream.numbered:
            number = next(self._numbers)
            body = body[:-8] + number.to_bytes(8, "little")
            calls.deadlines[str(number)] = deadline_s
        code = "OK"
        try:
            await self._call(body, metadata=metadata, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
        if left_s is not None:
            calls.late_s.append(round(time.time() - deadline_s, 5))
        calls.due_s.append(round(due_s, 5))
        calls.took_s.append(round(time.monotonic() - start_s - due_s, 5))
        calls.codes.append(code)


def _schedule(stream: Stream, duration_s: float, rng: random.Random) -> Iterator[float]:
    due_s = rng.random() / stream.rate
    while due_s < duration_s:
        yield due_s
        due_s += rng.expovariate(stream.rate) if stream.poisson else 1 / stream.rate


def read_plan(line: str) -> Plan:
    """A plan from its line."""
    said = json.loads(line)
    streams = tuple(Stream(**stream) for stream in said.pop("streams"))
    return Plan(streams=streams, **said)


async def main(address: str, method: str, body: Path) -> None:
    """Carries out plans until standard input ends."""
    async with channel(address) as opened:
        generator = Generator(opened, method, body.read_bytes())
        await opened.channel_ready()
        while line := await asyncio.to_thread(sys.stdin.readline):
            result = await generator.run(read_plan(line))
            sys.stdout.write(json.dumps(asdict(result)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
