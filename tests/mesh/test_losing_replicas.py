"""Replicas die by SIGKILL under load; no caller notices. `make chaos` does the same for a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.mesh.losing import lose_replicas, mesh_calls
from tests.mesh.running import make_state, replica_pids, running_mesh

KILLS = 4


def test_no_call_is_lost_while_replicas_are_killed(
    tmp_path: Path, models_dir: Path, sample: Callable[[str], Path]
) -> None:
    state = make_state(tmp_path / "state", models_dir)
    with running_mesh(state, "--replicas", "vision=2,nlp=2,speech=2") as mesh:
        before = replica_pids(mesh)
        assert {service: len(pids) for service, pids in before.items()} == {
            "vision": 2,
            "nlp": 2,
            "speech": 2,
        }

        async def lose() -> None:
            async with mesh_calls(mesh, sample) as (calls, ready):
                losses = await lose_replicas(mesh, calls, ready, kills=KILLS, every_s=3.0)
            assert losses.kills == KILLS
            assert losses.calls > 100
            assert not losses.lost, losses.lost

        asyncio.run(asyncio.wait_for(lose(), 110))
        after = replica_pids(mesh)
        assert {service: len(pids) for service, pids in after.items()} == {"vision": 2, "nlp": 2, "speech": 2}
        assert after != before
