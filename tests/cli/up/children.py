"""Plans for the test's own child process."""

from __future__ import annotations

import os
from pathlib import Path

from cli.place import ROOT
from cli.up.log_file import LogFile
from cli.up.process import ProcessPlan


def make_plan(folder: Path, mode: str = "serve", name: str = "nlp-0") -> ProcessPlan:
    file = folder / "address" / name
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CHILD_MODE": mode, "CHILD_ADDRESS_FILE": str(file)}
    log = LogFile(folder / "log" / f"{name}.log")
    return ProcessPlan(name, "nlp", "tests.cli.up.serving_child", environ, file, log)
