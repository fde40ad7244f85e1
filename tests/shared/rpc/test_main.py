"""A serving process from outside: signals, exit codes, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from shared.rpc.channel import channel
from tests.support.serving import serving
from tests.support.stub import call, get_method
from tests.support.waiting import take, within

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def starting(**variables: str) -> AsyncIterator[Process]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.stub_process",
        cwd=ROOT,
        env={**environ, **variables},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await within(process.wait())


async def read_until(process: Process, event: str) -> dict[str, object]:
    """The first line of the log with that event."""
    assert process.stderr is not None
    while line := await within(process.stderr.readline()):
        entry: dict[str, object] = json.loads(line)
        if entry["event"] == event:
            return entry
    raise AssertionError(f"{event} was never logged")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_with_zero(front: str, number: signal.Signals) -> None:
    async with starting(SENSORIUM_STUB_RPC__FRONT=front) as process:
        listening = await read_until(process, "listening")
        assert listening["front"] == front
        async with channel(str(listening["address"])) as opened:
            assert await within(call(opened, "Echo", b"up", wait_for_ready=True)) == b"up"
            held = aiter(get_method(opened, "StreamingHold")(BytesValue(value=b"kept"), timeout=10))
            assert (await take(held)).value == b"begun"
            process.send_signal(number)
            assert (await take(held)).value == b"kept"
            with pytest.raises(StopAsyncIteration):
                await take(held)
        await read_until(process, "stopped")
        stdout, stderr = await within(process.communicate())
    assert (process.returncode, stdout, stderr) == (0, b"", b"")


async def test_a_taken_port_is_one_line_and_exit_one(front: str) -> None:
    async with (
        serving(front=front) as up,
        starting(SENSORIUM_STUB_RPC__FRONT=front, SENSORIUM_STUB_RPC__ADDRESS=up.address) as process,
    ):
        stdout, stderr = await within(process.communicate())
    assert process.returncode == 1
    assert stdout == b""
    assert stderr.decode() == (
        f"cannot start: address {up.address} is in use; stop its owner or choose another\n"
    )


async def test_bad_variables_are_listed_and_exit_one() -> None:
    async with starting(
        SENSORIUM_STUB_RPC__FRONT="rust", SENSORIUM_STUB_RPC__MAX_TIMEOUT_S="long", SENSORIUM_STUB_PORT="1"
    ) as process:
        _, stderr = await within(process.communicate())
    assert process.returncode == 1
    assert "Traceback" not in stderr.decode()
    for name in ("SENSORIUM_STUB_RPC__FRONT", "SENSORIUM_STUB_RPC__MAX_TIMEOUT_S", "SENSORIUM_STUB_PORT"):
        assert name in stderr.decode()


async def test_a_bad_log_level_is_said() -> None:
    async with starting(SENSORIUM_LOG_LEVEL="loud") as process:
        _, stderr = await within(process.communicate())
    assert process.returncode == 1
    assert b"SENSORIUM_LOG_LEVEL" in stderr


async def test_text_logs_are_for_people() -> None:
    async with starting(SENSORIUM_LOG_FORMAT="text") as process:
        assert process.stderr is not None
        assert b"listening" in await within(process.stderr.readline())
        process.terminate()
        await within(process.communicate())
    assert process.returncode == 0
