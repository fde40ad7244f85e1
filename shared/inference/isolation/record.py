"""What models have done to their replicas: one file for all replicas of a service, and who is quarantined by it.

Here: counting, ageing, releasing. Not here: finding out whose fault it was (`marker.py`, `watch.py`). Imports neither numpy
nor ONNX Runtime: the command line reads it too.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shared.files import write_atomically
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

# Blame that makes a quarantine: two crashes for sure, four between two suspects, four hangs that let go.
QUARANTINE_AT = 2.0
# Shares are sums of fractions such as 1/3.
_ROUNDING = 1e-6
# Blames kept for a model; more than the smallest share needs.
_KEPT = 64
_FILE, _LOCK = "blame.json", ".lock"
# The folder of the state folder that has a folder for each service.
ROOM = "isolation"


Kind: TypeAlias = Literal["crash", "hang"]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An artifact: `digest` is what counts, the names are for people."""

    model: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Blame:
    """One crash or hang of a model. cause: an identity of the event, which counts once; at: Unix time."""

    kind: Kind
    cause: str
    at: float
    share: float
    reason: str


@dataclass(frozen=True, slots=True)
class Blamed:
    """A model with what still counts against it, oldest first."""

    suspect: Suspect
    blames: tuple[Blame, ...]
    until: float  # Unix time from which on it is no longer quarantined, if nothing is added

    @property
    def quarantined(self) -> bool:
        """Whether it must not be loaded."""
        return _sum(self.blames) >= QUARANTINE_AT - _ROUNDING


def record_folder(state: Path, service: str) -> Path:
    """Where the replicas of a service keep their record and markers."""
    return state / ROOM / service


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against the other replicas of the machine. Blocks while one of them has it, some ms.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Record:
    """The file. Every call reads what the other replicas have written; usable from several threads."""

    def __init__(self, folder: Path, *, blame_s: float) -> None:
        """`blame_s` is how many seconds a blame counts."""
        self._folder, self._path = folder, folder / _FILE
        self._blame_s = blame_s
        # Parsed once per version of the file.
        self._stamp: tuple[int, int, int] | None = None
        self._parsed: Mapping[str, Blamed] = {}

    def find(self, digest: str) -> Blamed | None:
        """What counts against an artifact now; None if nothing does."""
        return self._age(self._read().get(digest))

    def list_blamed(self) -> list[Blamed]:
        """All against which something counts, by name."""
        aged = (self._age(blamed) for blamed in self._read().values())
        found = (blamed for blamed in aged if blamed is not None)
        return sorted(found, key=lambda blamed: (blamed.suspect.model, blamed.suspect.version))

    def add(
        self,
        suspects: Sequence[Suspect],
        *,
        kind: Kind,
        cause: str,
        reason: str,
        weight: float = 1.0,
        apart_s: float = 0.0,
    ) -> None:
        """Blame each suspect for its share of `weight`.

        Does nothing if this cause was added before, or the same reason within the last `apart_s` seconds.

        Raises:
            OSError: the file cannot be written.
        """
        with locked(self._folder):
            self.add_held(suspects, kind=kind, cause=cause, reason=reason, weight=weight, apart_s=apart_s)

    def add_held(
        self,
        suspects: Sequence[Suspect],
        *,
        kind: Kind,
        cause: str,
        reason: str,
        weight: float = 1.0,
        apart_s: float = 0.0,
    ) -> None:
        """As `add`, for who holds the folder (`locked`)."""
        now = time.time()
        models = dict(self._read())
        for suspect in suspects:
            known = self._age(models.get(suspect.digest))
            blames = () if known is None else known.blames
            if any(
                blame.cause == cause or (blame.reason == reason and now - blame.at < apart_s)
                for blame in blames
            ):
                continue
            added = (*blames, Blame(kind, cause, now, weight / len(suspects), reason))[-_KEPT:]
            models[suspect.digest] = self._make(suspect, added)
        self._write(models)

    def release(self, model: str) -> list[Blamed]:
        """Forget what all versions of a model have done; returns what is forgotten.

        Raises:
            OSError: the file cannot be written.
        """
        with locked(self._folder):
            models = dict(self._read())
            released = [blamed for blamed in models.values() if blamed.suspect.model == model]
            if released:
                self._write({key: value for key, value in models.items() if value not in released})
        return released

    def _age(self, blamed: Blamed | None) -> Blamed | None:
        if blamed is None:
            return None
        oldest = time.time() - self._blame_s
        blames = tuple(blame for blame in blamed.blames if blame.at > oldest)
        if len(blames) == len(blamed.blames):
            return blamed
        return self._make(blamed.suspect, blames) if blames else None

    def _make(self, suspect: Suspect, blames: tuple[Blame, ...]) -> Blamed:
        # Quarantine ends when so many of the oldest have aged that the rest is too little.
        until = 0.0
        for at in range(len(blames)):
            if _sum(blames[at:]) >= QUARANTINE_AT - _ROUNDING:
                until = blames[at].at + self._blame_s
        return Blamed(suspect, blames, until)

    def _read(self) -> Mapping[str, Blamed]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._parsed = self._parse(json.loads(self._path.read_bytes()))
                self._stamp = stamp
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # Somebody else wrote it: no reason not to serve.
            _log.warning("record of blame cannot be read, nobody is quarantined by it", error=str(error))
            return {}
        return self._parsed

    def _parse(self, content: Any) -> Mapping[str, Blamed]:
        return {
            digest: self._make(
                Suspect(str(entry["model"]), str(entry["version"]), digest),
                tuple(
                    Blame(b["kind"], str(b["cause"]), float(b["at"]), float(b["share"]), str(b["reason"]))
                    for b in entry["blames"]
                ),
            )
            for digest, entry in content["models"].items()
        }

    def _write(self, models: Mapping[str, Blamed]) -> None:
        """Under the lock; readers see the old or the new file."""
        content = {
            digest: {
                "model": blamed.suspect.model,
                "version": blamed.suspect.version,
                "blames": [asdict(blame) for blame in aged.blames],
            }
            for digest, blamed in models.items()
            if (aged := self._age(blamed)) is not None
        }
        write_atomically(self._path, json.dumps({"models": content}, indent=1))


def describe_quarantine(service: str, blamed: Blamed) -> str:
    """Why a quarantined model is not loaded, and what releases it, in words for its user."""
    name, last = f"{service}/{blamed.suspect.model}", blamed.blames[-1]
    count = len(blamed.blames)
    return (
        f"quarantined: it was blamed {count} times, last at {format_time(last.at)} because {last.reason}; it is tried "
        f"again at {format_time(blamed.until)}, or at once: a new version of it, or `sensorium models release {name}`"
    )


def format_time(at: float) -> str:
    """Unix time as people read it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _sum(blames: Sequence[Blame]) -> float:
    return sum(blame.share for blame in blames)
