"""Load from grpc.aio, where h2load cannot go: streams in both directions, and TLS with a client's certificate.

`python -m tests.benchmarks.caller` reads lines of JSON, one for each run, and answers each with one: `{"cpu_s"}`, its own.
Every caller has a connection of its own and one message in flight; every message must be answered well.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.mesh.running import ROOT

TIMEOUT_S = 60.0


def connect(address: str, certificates: str | None) -> grpc.aio.Channel:
    """A connection that no other channel shares."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=options)
    folder = Path(certificates)
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.crt").read_bytes(),
        (folder / "client.key").read_bytes(),
        (folder / "client.crt").read_bytes(),
    )
    return grpc.aio.secure_channel(f"localhost:{address.rpartition(':')[2]}", credentials, options=options)


async def call(channel: grpc.aio.Channel, method: str, body: bytes, messages: int, *, bidi: bool) -> None:
    """One caller's messages, one after the other: as many calls, or one call with as many messages."""
    if not bidi:
        unary = channel.unary_unary(f"/{method}")
        for _ in range(messages):
            await unary(body, timeout=TIMEOUT_S)
        return
    stream = channel.stream_stream(f"/{method}")(timeout=TIMEOUT_S)
    for _ in range(messages):
        await stream.write(body)
        if await stream.read() is grpc.aio.EOF:
            raise SystemExit(f"{method} ended early: {await stream.code()} {await stream.details()}")
    await stream.done_writing()
    if await stream.read() is not grpc.aio.EOF or await stream.code() is not grpc.StatusCode.OK:
        raise SystemExit(f"{method} did not end well: {await stream.code()} {await stream.details()}")


async def run(
    address: str, method: str, body: str, callers: int, messages: int, bidi: bool, certificates: str | None
) -> None:
    """All callers side by side."""
    channels = [connect(address, certificates) for _ in range(callers)]
    message = bytes.fromhex(body)
    await asyncio.gather(
        *(call(channel, method, message, messages // callers, bidi=bidi) for channel in channels)
    )
    await asyncio.gather(*(channel.close() for channel in channels))


async def serve() -> None:
    """Runs what standard input asks for until it ends."""
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        cpu_s = time.process_time()
        await run(**json.loads(line))
        print(json.dumps({"cpu_s": time.process_time() - cpu_s}), flush=True)


class Callers:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, **asked: Any) -> float:
        """One run; the process's own CPU seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit(f"calls of {asked['method']} failed; its reason is above")
        return float(json.loads(said)["cpu_s"])


@contextmanager
def calling() -> Iterator[Callers]:
    """Callers for the length of a `with` block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.caller"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    try:
        yield Callers(process)
    finally:
        process.stdin.close()
        process.wait(timeout=30)


if __name__ == "__main__":
    asyncio.run(serve())
