"""The versions of a service's models: which lie on disk, in which order, and what is told of each.

Not here: loading them (`loading.py`) and choosing among them (`shelf.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sensorium.mesh.v1 import replica_service_pb2 as pb

from shared.inference.model import Model

State: TypeAlias = "pb.ModelStatus.State.ValueType"
LOADING: State = pb.ModelStatus.STATE_LOADING
READY: State = pb.ModelStatus.STATE_READY
UNAVAILABLE: State = pb.ModelStatus.STATE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Folder:
    """A version's folder as it was when it was looked at; one that differs holds something else by now."""

    path: Path
    files: frozenset[tuple[str, int, int, int]] = field(repr=False)  # name, inode, size, time of change


# Model -> version -> folder.
Found: TypeAlias = Mapping[str, Mapping[str, Folder]]


@dataclass(slots=True, eq=False)
class Version:
    """One version of a model, on disk or only in the catalogue, and its state. Changed on the event loop only."""

    name: str
    version: str
    folder: Folder | None  # None: not on disk
    state: State
    reason: str = ""
    model: Model | None = None  # present while it is ready


def scan(models_dir: Path) -> dict[str, dict[str, Folder]]:
    """Every model on disk with its versions. Blocks: about 0.1 ms for ten models. Files are not read.

    What begins with a dot is being written, or a lock, and is not seen; nor is a link that leads nowhere or in circles, or a
    name that is not UTF-8, which no message could carry.

    Raises:
        OSError: the folder, or a model's, is there and cannot be listed.
    """
    found = {}
    for entry in _list_folders(models_dir):
        versions = {one.name: Folder(Path(one.path), _list_files(one.path)) for one in _list_folders(entry)}
        if versions:
            found[entry.name] = versions
    return found


def order(version: str) -> list[tuple[int, int, str]]:
    """A sort key that orders versions as people do: 2 before 10, 1.9 before 1.10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in re.findall(r"\d+|\D+", version, re.ASCII)
    ]


def _list_folders(path: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(
                (entry for entry in entries if not entry.name.startswith(".") and _is_folder(entry)),
                key=lambda entry: entry.name,
            )
    except (FileNotFoundError, NotADirectoryError):
        return []  # it went between two looks, or never was


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        entry.name.encode()
        return entry.is_dir()
    except (OSError, UnicodeEncodeError):
        return False


def _list_files(path: str) -> frozenset[tuple[str, int, int, int]]:
    try:
        with os.scandir(path) as entries:
            return frozenset((entry.name, *_look_at(entry)) for entry in entries)
    except OSError:
        return frozenset()  # whoever loads it says why


def _look_at(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        stat = entry.stat()
    except OSError:
        return entry.inode(), 0, 0  # a link that leads nowhere
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
