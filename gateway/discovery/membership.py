"""Who is there: addresses of replicas as they come and go. What a replica says of itself is read elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.config import Mesh, is_address
from shared.telemetry.logging import get_logger

# A supervisor's new file is seen this much later; reading a dozen small files takes some tens of microseconds.
POLL_S = 0.1


@dataclass(frozen=True)
class Insert:
    """A replica of `service` is at `endpoint` (`host:port` or `unix:/path`)."""

    service: str
    endpoint: str


@dataclass(frozen=True)
class Remove:
    """There is none any more."""

    service: str
    endpoint: str


@dataclass(frozen=True)
class Settled:
    """All that were there at the start were told."""


Change = Insert | Remove | Settled


class Membership(Protocol):
    """A source of replicas. What was inserted stays until it is removed."""

    def changes(self) -> AsyncIterator[Change]:
        """Inserts for all that are there, `Settled` once, then changes as they happen; ends when there will be none."""
        ...


def compare(known: frozenset[Insert], found: frozenset[Insert]) -> Iterator[Change]:
    """What makes `found` of `known`: those that are gone, then those that are new."""
    for gone in sorted(known - found, key=str):
        yield Remove(gone.service, gone.endpoint)
    yield from sorted(found - known, key=str)


class StaticMembership:
    """Those that `mesh.yaml` lists."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def changes(self) -> AsyncIterator[Change]:
        """All of them, once."""
        for service in self._mesh.services:
            for endpoint in service.replicas:
                yield Insert(service.name, endpoint)
        yield Settled()


class FolderMembership:
    """Those that a supervisor writes down: `<folder>/<service>/<n>`, each file holding one address.

    Files whose name begins with a dot are being written. A file without an address is reported once and left out.
    """

    def __init__(self, folder: Path, services: Sequence[str], poll_s: float = POLL_S) -> None:
        self._folder, self._services, self._poll_s = folder, tuple(services), poll_s
        self._refused: set[tuple[Path, str]] = set()

    async def changes(self) -> AsyncIterator[Change]:
        """Follows the folder by looking again and again: the same on every system, and the folder may come late."""
        known = self.read()
        for insert in sorted(known, key=str):
            yield insert
        yield Settled()
        while True:
            await asyncio.sleep(self._poll_s)
            found = self.read()
            for change in compare(known, found):
                yield change
            known = found

    def read(self) -> frozenset[Insert]:
        """What the folder says now."""
        return frozenset(
            Insert(service, address)
            for service in self._services
            for address in self._read_addresses(self._folder / service)
        )

    def _read_addresses(self, folder: Path) -> list[str]:
        found = []
        try:
            paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        for path in paths:
            try:
                text = path.read_text().strip()
            except (OSError, UnicodeDecodeError):
                # It went away between listing and reading, or is no file of ours.
                continue
            if is_address(text):
                found.append(text)
            elif (path, text) not in self._refused:
                self._refused.add((path, text))
                get_logger("discovery").warning(
                    "not an address", path=str(path), expected="host:port or unix:/path", got=text[:80]
                )
        return found
