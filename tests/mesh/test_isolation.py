"""Models that crash their replicas or hang in them, behind the gateway: what else is served goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import grpc

from tests.mesh.hostile import LIMIT_S, ask, calling, running, see_other, show_status
from tests.mesh.losing import Losses, keep_calling
from tests.mesh.running import replica_pids
from tests.shared.inference.graphs import slow
from tests.shared.inference.isolation.graphs import (
    HOURS,
    LOWEST,
    crashing,
    crashing_at_load,
    deaf,
    needs_trap,
)

FOR_EVER = 2**40


@needs_trap
async def test_a_model_that_crashes_is_kept_out_and_the_rest_serves(tmp_path: Path) -> None:
    with running(tmp_path, "--replicas", "nlp=2", crashing=crashing()) as mesh:
        async with calling(mesh) as caller:
            losses, stopped = Losses(), asyncio.Event()
            others = asyncio.create_task(keep_calling(lambda: caller.call_line("nlp"), losses, stopped))
            for _ in range(2):
                await caller.see("nlp/crashing", ready=2)
                before = set(replica_pids(mesh)["nlp"])
                # It ends one replica; the other does not take it over.
                code = await caller.fail("nlp/crashing", LOWEST)
                assert code is grpc.StatusCode.FAILED_PRECONDITION
                await see_other(mesh, before)
                assert before & set(replica_pids(mesh)["nlp"])
                await caller.see("nlp/line", ready=2)
            stopped.set()
            await asyncio.wait_for(others, LIMIT_S)
            assert losses.calls
            assert not losses.lost, losses.lost
            await caller.see("nlp/crashing", ready=0, replicas=2, reason="quarantined: it was blamed 2 times")
            await caller.see("nlp/line", ready=2)
            await caller.call_line("nlp")
            assert await caller.fail("nlp/crashing", 1) is grpc.StatusCode.UNAVAILABLE
            status = await asyncio.to_thread(show_status, mesh)
            assert any("crashing: it crashed its replica" in row["restarts"].get("why", "") for row in status)
            released = await asyncio.to_thread(ask, mesh, "models", "release", "nlp/crashing")
            assert released.startswith("RELEASED")
            await caller.see("nlp/crashing", ready=2)
            await caller.call("nlp/crashing", 1)


@needs_trap
async def test_a_mesh_comes_up_with_models_that_crash_while_they_are_loaded(tmp_path: Path) -> None:
    with running(tmp_path, one=crashing_at_load(), two=crashing_at_load()) as mesh:
        async with calling(mesh) as caller:
            for name in ("nlp/one", "nlp/two"):
                await caller.see(name, ready=0, reason="quarantined")
            await caller.see("nlp/line", ready=1)
            await caller.call_line("nlp")


async def test_a_model_that_hangs_restarts_its_replica_and_the_other_answers(tmp_path: Path) -> None:
    environ = {
        "SENSORIUM_NLP_INFERENCE__ISOLATION__RUN_TIMEOUT_S": "0.5",
        "SENSORIUM_NLP_INFERENCE__ISOLATION__GRACE_S": "0.5",
    }
    with running(tmp_path, "--replicas", "nlp=2", environ=environ, deaf=deaf(), slow=slow()) as mesh:
        async with calling(mesh) as caller:
            # Models come in any order.
            for name in ("nlp/deaf", "nlp/slow", "nlp/line"):
                await caller.see(name, ready=2)
            before = set(replica_pids(mesh)["nlp"])
            losses, stopped = Losses(), asyncio.Event()
            others = asyncio.create_task(keep_calling(lambda: caller.call_line("nlp"), losses, stopped))
            # Told to end, and hears it: nothing ends but the run.
            await caller.fail("nlp/slow", FOR_EVER, timeout_s=3.0)
            await caller.see("nlp/slow", ready=2)
            assert set(replica_pids(mesh)["nlp"]) == before
            # Its caller has not the time for a second replica.
            await caller.fail("nlp/deaf", HOURS, timeout_s=0.8)
            await see_other(mesh, before)
            await caller.see("nlp/line", ready=2)
            stopped.set()
            await asyncio.wait_for(others, LIMIT_S)
            assert not losses.lost, losses.lost


async def test_replicas_that_are_killed_blame_no_model(tmp_path: Path) -> None:
    with running(tmp_path, slow=slow()) as mesh:
        async with calling(mesh) as caller:
            for _ in range(2):
                await caller.see("nlp/slow", ready=1)
                assert (
                    await caller.fail("nlp/slow", FOR_EVER, timeout_s=0.5)
                    is grpc.StatusCode.DEADLINE_EXCEEDED
                )
                (pid,) = replica_pids(mesh)["nlp"]
                os.kill(pid, signal.SIGKILL)
                await see_other(mesh, {pid})
            await caller.see("nlp/slow", ready=1)
            await caller.call("nlp/slow", 3)
            assert not (mesh.state / "isolation" / "nlp" / "blame.json").exists()
