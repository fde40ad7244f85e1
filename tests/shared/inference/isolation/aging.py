"""Time that passes for a record."""

from __future__ import annotations

import json
from pathlib import Path


def age(folder: Path, seconds: float) -> None:
    """Make all that is in the record older."""
    path = folder / "blame.json"
    content = json.loads(path.read_text())
    for model in content["models"].values():
        for blame in model["blames"]:
            blame["at"] -= seconds
    path.write_text(json.dumps(content))
