"""The native front's own bookkeeping. What it does for calls is tested with everything else, on both fronts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pygrpc_native import EVENT_CALL, EVENT_CANCEL

from shared.rpc.native import NativeServer
from tests.support.serving import serving
from tests.support.stub import call, echo, stub
from tests.support.waiting import within


async def test_a_call_that_is_cancelled_before_it_begins_is_forgotten() -> None:
    async with serving(stub(Echo=echo)) as up:
        await within(call(up.channel, "Echo"))
        front = up.server._front
        assert isinstance(front, NativeServer)
        # As they come from a loop that was busy: both at once.
        call_id, details = 2**40, ((), "peer", None)
        front._arrived.append(
            [(EVENT_CALL, call_id, 0, b"", None, details), (EVENT_CANCEL, call_id, 0, b"", None, None)]
        )
        front._take()
        await within(asyncio.sleep(0))
        assert not front._calls
        await within(call(up.channel, "Echo"))


async def test_what_killed_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    left, alive, foreign = (
        tmp_path / f"sensorium-front-{owner}-x" for owner in (gone.pid, os.getpid(), "somebody")
    )
    for folder in (left, alive, foreign):
        folder.mkdir()
    async with serving(stub(Echo=echo), front="native") as up:
        await within(call(up.channel, "Echo"))
        assert not left.exists()
        assert alive.exists()
        assert foreign.exists()
