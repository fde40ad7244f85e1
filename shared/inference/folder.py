"""Artifact folders on disk: they appear whole or not at all, whoever reads beside.

Not here: what lies in them (`artifact.py`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

# A folder that a killed write left behind is removed by the next write once it is this old; a younger one may
# be at work.
_STALE_S = 3600.0
_PARTIAL = ".partial-"


def write_folder(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write files to a folder beside the target and rename it, so that no reader ever sees half of it.

    What was there goes. A write that is killed leaves a folder whose name begins with a dot, which nobody reads.

    Raises:
        OSError: it cannot be written; the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{_PARTIAL}*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    partial = target.parent / f"{_PARTIAL}{target.name}-{secrets.token_hex(4)}"
    old = target.parent / f"{_PARTIAL}old-{target.name}-{secrets.token_hex(4)}"
    partial.mkdir()
    try:
        for name, content in contents.items():
            with (partial / name).open("wb") as file:
                file.write(content)
                file.flush()
                # Renamed before the bytes are on the disk, a power cut could leave an empty file under a good
                # name.
                os.fsync(file.fileno())
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
