"""Whose fault a crash was, found out by the next process: with real crashes of real processes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import RESTART_CODE
from shared.inference.artifact import GraphDraft
from shared.inference.isolation.marker import Crash, Marker, collect
from shared.inference.isolation.record import Record, Suspect, locked
from tests.shared.inference.graphs import linear, slow
from tests.shared.inference.isolation.graphs import crashing, crashing_at_load, deaf, needs_trap
from tests.support.service_process import ROOT
from tests.support.waiting import within

Write = Callable[[str, GraphDraft], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a graph to a file; the name is its model's."""

    def write_graph(name: str, draft: GraphDraft) -> Path:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(draft.content)
        return path

    return write_graph


async def die(folder: Path, way: str, *files: Path) -> int:
    """Let a process die in a way; its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.shared.inference.isolation.dying",
        str(folder),
        way,
        *map(str, files),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await within(process.communicate(), 30)
    assert process.returncode is not None
    assert b"Traceback" not in said, said.decode()
    return process.returncode


def collect_all(folder: Path) -> list[Crash]:
    with locked(folder):
        return list(collect(folder))


def name_suspects(crash: Crash) -> set[str]:
    return {suspect.model for suspect in crash.suspects}


@needs_trap
async def test_a_crash_is_blamed_on_the_model_that_ran_on_the_thread(tmp_path: Path, write: Write) -> None:
    code = await die(tmp_path / "run", "run", write("guilty", crashing()), write("other", slow()))
    assert code == -signal.SIGFPE
    (crash,) = collect_all(tmp_path / "run")
    assert crash.suspects == (Suspect("guilty", "1", "sha256:guilty"),)
    assert crash.reason == "it crashed its replica (floating point exception, model)"
    # It is told once: nothing is left of it.
    assert collect_all(tmp_path / "run") == []
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@needs_trap
async def test_a_crash_while_a_model_is_opened_is_its_own(tmp_path: Path, write: Write) -> None:
    code = await die(tmp_path / "run", "load", write("guilty", crashing_at_load()), write("other", slow()))
    assert code == -signal.SIGFPE
    (crash,) = collect_all(tmp_path / "run")
    assert name_suspects(crash) == {"guilty"}
    assert "being loaded" in crash.reason


@needs_trap
async def test_a_crash_on_a_thread_of_onnx_runtime_has_all_that_ran_as_suspects(
    tmp_path: Path, write: Write
) -> None:
    code = await die(tmp_path / "run", "pool", write("guilty", crashing()), write("other", slow()))
    assert code == -signal.SIGFPE
    (crash,) = collect_all(tmp_path / "run")
    assert crash.fault.thread is None
    assert name_suspects(crash) == {"guilty", "other"}


async def test_a_thread_that_uses_up_its_stack_is_found_too(tmp_path: Path, write: Write) -> None:
    code = await die(tmp_path / "run", "overflow", write("unused", linear()), write("other", slow()))
    assert code == -signal.SIGSEGV
    (crash,) = collect_all(tmp_path / "run")
    assert name_suspects(crash) == {"deep"}


async def test_a_crash_on_a_thread_that_runs_no_model_blames_none(tmp_path: Path, write: Write) -> None:
    code = await die(tmp_path / "run", "elsewhere", write("innocent", slow()))
    assert code == -signal.SIGABRT
    (crash,) = collect_all(tmp_path / "run")
    assert crash.suspects == ()


async def test_an_event_loop_that_a_run_blocks_is_not_waited_for(tmp_path: Path, write: Write) -> None:
    assert await die(tmp_path / "run", "loop", write("guilty", deaf())) == RESTART_CODE
    assert collect_all(tmp_path / "run") == []
    (blamed,) = Record(tmp_path / "run", blame_s=3600.0).list_blamed()
    assert (blamed.suspect.model, len(blamed.blames)) == ("guilty", 1)


async def test_who_is_killed_leaves_no_crash(tmp_path: Path, write: Write) -> None:
    code = await die(tmp_path / "run", "killed", write("innocent", slow()))
    assert code == -signal.SIGKILL
    assert any((tmp_path / "run").glob("*.marker"))
    assert collect_all(tmp_path / "run") == []
    assert not any((tmp_path / "run").glob("*.marker"))


async def test_who_ends_by_itself_leaves_nothing(tmp_path: Path, write: Write) -> None:
    assert await die(tmp_path / "run", "ends", write("any", crashing())) == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


async def test_the_marker_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with locked(tmp_path):
        marker = Marker(tmp_path)
    assert collect_all(tmp_path) == []
    assert len(list(tmp_path.glob("*.marker"))) == 1
    marker.remove()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


async def test_slots_are_used_again(tmp_path: Path) -> None:
    with locked(tmp_path):
        marker = Marker(tmp_path)
    suspect = Suspect("model", "1", "sha256:1")
    slots = [marker.take(suspect, "graph") for _ in range(1025)]
    assert slots[-1] is None
    assert len(set(slots[:-1])) == 1024
    assert slots[0] is not None
    marker.free(slots[0])
    assert marker.take(suspect, "graph") == slots[0]
