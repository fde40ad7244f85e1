"""`python -m tests.cli.up.supervise_once FOLDER`: keeps one child and waits to be killed; for tests of orphans."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cli.up.child import Child
from tests.cli.up.children import make_plan


async def supervise(folder: Path) -> None:
    child = Child(make_plan(folder), publish=lambda address: print(child.pid, flush=True), note=print)
    await child.run()


if __name__ == "__main__":
    asyncio.run(supervise(Path(sys.argv[1])))
