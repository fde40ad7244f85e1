"""Graphs as ONNX Runtime has optimised them, kept in the state folder so that the next start need not do it again.

Here: files, their key, their digest, their bound. Not here: when one is made and whether it pays (`session.py`).

An entry is two files, `<key>.onnx` and `<key>.json`; the second is written last and names the first one's
digest, so that half an entry is none. A graph for which the cache does not pay has the second file only. Providers that
compile graphs (TensorRT, OpenVINO) keep their own files in `<key>.compiled/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.inference.machine import describe_cpu, describe_runtime
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

# Written into every key: another value makes all entries of before worthless.
_FORMAT = 1
# What a killed process left half-written is removed once it is this old; a younger one may be at work.
_STALE_S = 3600.0
# Records of graphs for which the cache does not pay that are kept; a service has some ten graphs, a version each.
_MAX_REFUSALS = 256
_GRAPH, _RECORD, _COMPILED, _PARTIAL = ".onnx", ".json", ".compiled", ".partial"


class GraphCache:
    """A folder of optimised graphs. For several processes at a time: files appear whole, by renaming."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        """`max_bytes` bounds all graphs together; what was not used for longest goes first."""
        self.folder = folder
        self._max_bytes = max_bytes

    def entry(
        self, digest: str, graph: str, *, provider: str, options: Mapping[str, str | int | bool]
    ) -> CachedGraph:
        """The place of one graph, which may be empty.

        `digest` is the artifact's, `graph` its file's name, `options` are those of the provider and of the
        session that shape the graph. Threads are none of them: the same nodes run on any number.
        """
        key = {
            "format": _FORMAT,
            "artifact": digest,
            "graph": graph,
            "runtime": describe_runtime(),
            "provider": provider,
            "options": dict(sorted(options.items())),
            "cpu": describe_cpu(),
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        return CachedGraph(self, name, key)

    def make_room(self) -> None:
        """Remove what was not used for longest until the rest is within the bound, and what was left half-written."""
        for path in self.folder.glob(f"*{_PARTIAL}*"):
            if 0 < _get_mtime(path) < time.time() - _STALE_S:
                path.unlink(missing_ok=True)
        refusals = [path for path in self.folder.glob(f"*{_RECORD}") if not path.with_suffix(_GRAPH).exists()]
        if len(refusals) > _MAX_REFUSALS:
            for path in sorted(refusals, key=_get_mtime)[:-_MAX_REFUSALS]:
                path.unlink(missing_ok=True)
        found = []
        for path in (*self.folder.glob(f"*{_GRAPH}"), *self.folder.glob(f"*{_COMPILED}")):
            if _PARTIAL in path.name:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process made room
                parts = [part.stat().st_size for part in (path.iterdir() if path.is_dir() else (path,))]
                found.append((path.stat().st_mtime, sum(parts), path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= self._max_bytes:
                return
            path.with_suffix(_RECORD).unlink(missing_ok=True)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            left -= size
            _log.info("optimised graph removed", file=path.name, reason="the cache is full", bytes=size)


def _get_mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process made room
        return 0.0


@dataclass(frozen=True, slots=True)
class CachedGraph:
    """One graph's place in the cache."""

    cache: GraphCache
    name: str
    key: Mapping[str, object]

    @property
    def is_known(self) -> bool:
        """Whether something was found out of it: the graph is here, or keeping it does not pay."""
        return self._read() is not None

    def find(self) -> Path | None:
        """The optimised graph if it is here and undamaged; a damaged one is removed. Reads all of it."""
        record = self._read()
        if record is None or "sha256" not in record:
            return None
        path = self._path(_GRAPH)
        try:
            with path.open("rb") as file:
                got = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            self.remove(f"it cannot be read: {error.strerror}")
            return None
        if got != record["sha256"]:
            self.remove(f"expected sha256 {record['sha256']}, got {got}")
            return None
        with contextlib.suppress(OSError):  # a read-only folder: it cannot be told when it was used
            os.utime(path)
        return path

    def make_folder(self) -> Path | None:
        """The folder in which a provider keeps what it compiled of the graph; None if it cannot be made."""
        folder = self._path(_COMPILED)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            self.cache.make_room()
        except OSError as error:
            _log.warning("compiled graphs are not kept", folder=str(folder), reason=error.strerror)
            return None
        return folder

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A path to write the graph to; what is not kept (`keep`) is removed at the end.

        Raises:
            OSError: the folder cannot be made.
        """
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        # Its suffix tells ONNX Runtime the format.
        partial = self._path(f"-{secrets.token_hex(4)}{_PARTIAL}{_GRAPH}")
        try:
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def keep(self, partial: Path, sha256: str, facts: Mapping[str, object]) -> None:
        """Let the written file be the graph; `facts` go into the record.

        Raises:
            OSError: the files cannot be written.
        """
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.rename(self._path(_GRAPH))
        self._write({"sha256": sha256, **facts})
        self.cache.make_room()

    def refuse(self, reason: str, facts: Mapping[str, object]) -> None:
        """Remember that the graph is not worth keeping.

        Raises:
            OSError: the record cannot be written.
        """
        self._write({"refused": reason, **facts})
        self.cache.make_room()

    def remove(self, reason: str) -> None:
        """Forget the graph; it is made again at the next occasion."""
        _log.warning("optimised graph removed", file=f"{self.name}{_GRAPH}", reason=reason)
        with contextlib.suppress(OSError):  # a read-only folder keeps its damaged file, which is never used
            self._path(_RECORD).unlink(missing_ok=True)
            self._path(_GRAPH).unlink(missing_ok=True)

    def _path(self, suffix: str) -> Path:
        return self.cache.folder / f"{self.name}{suffix}"

    def _read(self) -> dict[str, object] | None:
        try:
            record = json.loads(self._path(_RECORD).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.remove(f"its record cannot be read: {error}")
            return None
        if not isinstance(record, dict) or record.get("key") != self.key:
            self.remove("its record is of another graph")
            return None
        return record

    def _write(self, record: Mapping[str, object]) -> None:
        partial = self._path(f"-{secrets.token_hex(4)}{_PARTIAL}{_RECORD}")
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps({"key": self.key, **record}, indent=2) + "\n", encoding="utf-8")
            partial.rename(self._path(_RECORD))
        finally:
            partial.unlink(missing_ok=True)
