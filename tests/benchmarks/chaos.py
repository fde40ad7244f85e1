"""Faults: replicas killed under load for a minute, and how many calls noticed.

make chaos
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from cli.pull.samples import fetch_sample
from shared.settings import state_dir
from tests.benchmarks.report import Row, publish
from tests.mesh.losing import Losses, lose_replicas, mesh_calls
from tests.mesh.running import ROOT, make_state, running_mesh

CALLERS = 16
EVERY_S = 3.0


async def lose(state: Path, folder: Path, kills: int) -> Losses:
    """Two replicas of each service; one is killed every three seconds, in turn over the services."""
    with running_mesh(make_state(folder, state / "models"), "--replicas", "vision=2,nlp=2,speech=2") as mesh:
        async with mesh_calls(mesh, lambda name: fetch_sample(name, state).path) as (calls, ready):
            return await lose_replicas(mesh, calls, ready, kills=kills, every_s=EVERY_S, callers=CALLERS)


def make_rows(losses: Losses) -> list[Row]:
    """Lost calls first; the others say what they were lost of."""
    lost = losses.lost.total()
    how = f"{CALLERS} callers, SIGKILL every {EVERY_S:g} s, later while the service recovers, {os.cpu_count()} cores"
    reasons = "; ".join(f"{count} x {reason}" for reason, count in losses.lost.most_common(3))
    return [
        Row("kill/calls_lost", lost, lost, lost, "calls", "== 0", lost == 0, reasons or how),
        Row("kill/calls", losses.calls, losses.calls, losses.calls, "calls", "", "no bar", how),
        Row("kill/kills", losses.kills, losses.kills, losses.kills, "kills", "", "no bar", how),
        Row(
            "kill/longest_call", losses.longest_s, losses.longest_s, losses.longest_s, "s", "", "no bar", how
        ),
        Row("kill/seconds", losses.wall_s, losses.wall_s, losses.wall_s, "s", "", "no bar", how),
    ]


def main() -> int:
    """Exit status 1 if a call was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="replicas to kill (default 20: a minute)")
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as scratch:
        losses = asyncio.run(lose(state_dir(), Path(scratch) / "state", kills))
    publish(make_rows(losses), ROOT / ".bench/chaos.json", f"{kills} kills")
    return int(losses.lost.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
