"""The versions of a service's models: which lie on disk, which are only in the catalogue, and their states.

Not here: loading them and choosing among them (`repository.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sensorium.mesh.v1 import replica_service_pb2 as pb

from shared.inference.model import Model
from shared.inference.repository.catalog import Catalog

State: TypeAlias = "pb.ModelStatus.State.ValueType"
LOADING: State = pb.ModelStatus.STATE_LOADING
READY: State = pb.ModelStatus.STATE_READY
UNAVAILABLE: State = pb.ModelStatus.STATE_UNAVAILABLE


@dataclass(slots=True)
class Version:
    """One version of a model, on disk or only in the catalogue, and its state. Changed on the event loop only."""

    name: str
    version: str
    folder: Path | None  # None: never pulled
    state: State
    reason: str = ""
    model: Model | None = None  # present while it is ready


def find_versions(models_dir: Path, catalog: Catalog) -> dict[str, list[Version]]:
    """Every model that is on disk or in the catalogue, with its versions, newest first; nothing is read of them."""
    found: dict[str, list[Version]] = {}
    for name in sorted({*catalog, *_list_folders(models_dir)}):
        folder = models_dir / name
        if numbers := sorted(_list_folders(folder), key=_sort_key, reverse=True):
            found[name] = [Version(name, number, folder / number, LOADING) for number in numbers]
        elif name in catalog:
            reason = f"not pulled: run `sensorium models pull {name}`"
            number = str(catalog[name].get("version", ""))
            found[name] = [Version(name, number, None, UNAVAILABLE, reason)]
    return found


def _list_folders(path: Path) -> list[str]:
    """Names of the folders in a folder; what begins with a dot is being written, or a lock."""
    try:
        return [entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _sort_key(version: str) -> list[tuple[int, int, str]]:
    """Orders versions as people do: 2 before 10, 1.9 before 1.10."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|\D+", version)
    ]
