"""One child process: it is started, published, started again, drained; and it does not outlive its parent."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.up.backoff import LONGEST_S, SETTLED_S, Backoff
from cli.up.child import Child, ChildError
from cli.up.endpoints import Endpoints, endpoints_folder
from cli.up.log_file import LogFile
from cli.up.restarts import Restarts, read_restarts, restarts_folder
from tests.cli.up.children import make_plan

WAIT_S = 30


class Kept:
    """A child that runs, and what it told."""

    def __init__(self, folder: Path, mode: str = "serve") -> None:
        self.addresses: asyncio.Queue[str | None] = asyncio.Queue()
        self.notes: list[str] = []
        self.plan = make_plan(folder, mode)
        # No pause between two runs: the waits are tested by themselves.
        backoff = Backoff(first_s=0.0)
        self.child = Child(
            self.plan, publish=self.addresses.put_nowait, note=self.notes.append, backoff=backoff
        )


@asynccontextmanager
async def running(kept: Kept) -> AsyncIterator[Kept]:
    task = asyncio.create_task(kept.child.run())
    try:
        async with asyncio.timeout(WAIT_S):
            yield kept
    finally:
        kept.child.kill()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), WAIT_S)


async def test_it_is_published_when_it_listens_and_drained(tmp_path: Path) -> None:
    async with running(Kept(tmp_path)) as kept:
        assert await kept.addresses.get() == f"127.0.0.1:{kept.child.pid}"
        await kept.child.stop()
        assert await kept.addresses.get() is None
    assert kept.plan.log.path.read_text().splitlines()[-1] == "drained"
    assert kept.notes == []


async def test_a_killed_one_comes_back_under_another_number(tmp_path: Path) -> None:
    async with running(Kept(tmp_path)) as kept:
        first = await kept.addresses.get()
        assert kept.child.pid
        os.kill(kept.child.pid, signal.SIGKILL)
        assert await kept.addresses.get() is None
        assert await kept.addresses.get() not in (None, first)
        assert kept.notes == ["nlp-0 was ended by SIGKILL; starting it again"]


async def test_a_full_disk_ends_nothing_and_the_address_is_written_later(tmp_path: Path) -> None:
    addresses: asyncio.Queue[str | None] = asyncio.Queue()
    notes: list[str] = []
    full = True

    def publish(address: str | None) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        addresses.put_nowait(address)

    def on_restart(why: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    child = Child(
        make_plan(tmp_path, "serve"),
        publish=publish,
        note=notes.append,
        on_restart=on_restart,
        backoff=Backoff(first_s=0.0),
    )
    task = asyncio.create_task(child.run())
    try:
        async with asyncio.timeout(WAIT_S):
            while not any("cannot be announced yet" in note for note in notes):
                await asyncio.sleep(0.01)
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            while len(notes) < 3:
                await asyncio.sleep(0.01)
            full = False
            assert await addresses.get() == f"127.0.0.1:{child.pid}"
            await child.listening.wait()
    finally:
        child.kill()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), WAIT_S)


async def test_one_that_says_why_it_cannot_start_is_believed(tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ChildError, match=r"^address 127\.0\.0\.1:1 is in use$"):
            await Kept(tmp_path, "refuse").child.run()


async def test_one_that_crashes_at_once_is_tried_three_times(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "crash")
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ChildError):
            await kept.child.run()
    assert len(kept.notes) == 2
    assert kept.plan.log.path.read_text().count("starting as") == 3


async def test_crashes_that_a_model_is_blamed_for_are_not_the_end(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, "crash")
    notes: list[str] = []
    restarts: list[str] = []
    blamed: list[int] = []

    def find_crash(pid: int) -> str:
        blamed.append(pid)
        return "nlp/cat: it crashed its replica" if len(blamed) <= 4 else ""

    child = Child(
        plan,
        publish=lambda address: None,
        note=notes.append,
        on_restart=restarts.append,
        find_crash=find_crash,
        backoff=Backoff(first_s=0.0),
    )
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ChildError):
            await child.run()
    assert len(set(blamed)) == 7
    assert (
        restarts
        == ["was ended by SIGSEGV: nlp/cat: it crashed its replica"] * 4 + ["was ended by SIGSEGV"] * 2
    )
    assert notes[0] == f"nlp-0 {restarts[0]}; starting it again"


async def test_one_that_asks_for_it_is_started_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "restart")
    async with running(kept):
        while not kept.notes:
            await kept.addresses.get()
    assert kept.notes[0] == "nlp-0 restarted itself: nlp/cat: a run of it hangs; starting it again"


def test_restarts_are_told_by_where_a_replica_listens_now(tmp_path: Path) -> None:
    endpoints, restarts = Endpoints(endpoints_folder(tmp_path)), Restarts(restarts_folder(tmp_path))
    endpoints.publish("nlp", "nlp-0", "127.0.0.1:1")
    endpoints.publish("nlp", "nlp-1", "127.0.0.1:2")
    restarts.add("nlp-0", "was ended by SIGKILL")
    restarts.add("nlp-0", "restarted itself")
    (found,) = read_restarts(tmp_path).items()
    assert (found[0], found[1].count, found[1].why) == ("127.0.0.1:1", 2, "restarted itself")
    assert read_restarts(tmp_path / "elsewhere") == {}


async def test_one_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    async with running(Kept(tmp_path, "stubborn")) as kept:
        await kept.addresses.get()
        await kept.child.stop(drain_s=0.2)
        assert await kept.addresses.get() is None
    assert kept.notes == ["nlp-0 did not end within 0 s and is killed"]


def test_a_child_ends_with_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.up.supervise_once", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate(timeout=WAIT_S)
    readable, _, _ = select.select([child], [], [], WAIT_S)
    os.close(child)
    assert readable


def test_waits_double_up_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(random.Random(7))
    waits = [backoff.next_s(0.1) for _ in range(12)]
    assert 0.375 <= waits[0] <= 0.625
    assert all(later > sooner for sooner, later in itertools.pairwise(waits[:6]))
    assert max(waits) <= LONGEST_S * 1.25
    for _ in range(2000):
        assert backoff.next_s(0.1) <= LONGEST_S * 1.25
    assert backoff.next_s(SETTLED_S) == 0.0
    assert backoff.next_s(0.1) <= 0.625


def test_logs_are_bounded_and_keep_the_last_words(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log" / "nlp-0.log", max_bytes=1000)
    descriptor = log.open()

    def write(text: str) -> None:
        os.write(descriptor, text.encode())

    write("old\n" * 200)
    log.rotate()
    assert log.last_words() == "old"
    write("older\n" * 100)
    log.rotate()
    assert log.path.stat().st_size == 0
    assert log.path.with_name("nlp-0.log.1").stat().st_size == 1400
    write('{"event": "stopped", "level": "info"}\n')
    assert log.last_words() == "stopped"
    write("cannot start: SENSORIUM_NLP_X: no such setting\nSENSORIUM_NLP_Y: no such setting\n")
    assert log.last_words() == "SENSORIUM_NLP_X: no such setting; SENSORIUM_NLP_Y: no such setting"
    os.close(descriptor)
    os.close(log.open())
    assert log.last_words() == ""
    assert LogFile(tmp_path / "nothing.log").last_words() == ""
