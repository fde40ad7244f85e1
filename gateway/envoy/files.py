"""The files that Envoy watches: written whole, in order, and not more often than needed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from gateway.discovery.roster import Replica
from gateway.envoy import Json
from gateway.envoy.admin import Admin, AdminError
from shared.files import write_atomically
from shared.telemetry.logging import get_logger

# Changes within this time are one: a replica that comes up reports several. The first of a burst is not held back.
COALESCE_S = 0.1
# Between looks at whether Envoy took what was written.
REPORT_S = 5.0
# Between tries to write what could not be written, most likely because the disk is full.
RETRY_S = 1.0


def render_source(path: Path) -> Json:
    """The `ConfigSource` of a published file: Envoy reads it again when something is put in its place."""
    return {
        "path_config_source": {"path": str(path), "watched_directory": {"path": str(path.parent)}},
        "resource_api_version": "V3",
    }


async def report_rejections(admin: Admin, every_s: float = REPORT_S) -> None:
    """Says so in the log when Envoy did not take a file: it goes on with the one before. Runs until cancelled."""
    log = get_logger("envoy")
    known: dict[str, int] = {}
    while True:
        try:
            found = await admin.stats("update_rejected$")
        except AdminError:
            # It is being restarted; its counts begin anew.
            found = {}
        for name, count in found.items():
            if count > known.get(name, 0):
                log.error("update rejected", stat=name, count=count, hint="the reason stands in envoy.log")
        known = found
        await asyncio.sleep(every_s)


class Publisher:
    """Writes resources, each kind into a file of its own, when they differ from what lies there.

    versions: that of each file, a digest of what is in it, as Envoy will report it. replicas: what they were made of.
    published: set when something is; there is another one by then. stuck: what changed could not be written yet.
    """

    def __init__(self) -> None:
        self.stuck = False
        self.versions: dict[Path, str] = {}
        self.replicas: tuple[Replica, ...] = ()
        self.published = asyncio.Event()

    def publish(self, resources: Mapping[Path, Json], replicas: Sequence[Replica]) -> list[Path]:
        """Writes what changed, in the order given: endpoints before the routes that lead to them. Returns the paths."""
        changed = []
        for path, resource in resources.items():
            version = hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest()[:16]
            if self.versions.get(path) == version:
                continue
            response = {"version_info": version, "resources": [resource]}
            write_atomically(path, json.dumps(response, indent=1), mode=0o600)
            self.versions[path] = version
            changed.append(path)
        self.replicas = tuple(replicas)
        if changed:
            published, self.published = self.published, asyncio.Event()
            published.set()
        return changed

    async def follow(
        self,
        changes: AsyncIterator[Sequence[Replica]],
        render: Callable[[Sequence[Replica]], Mapping[Path, Json]],
        coalesce_s: float = COALESCE_S,
    ) -> None:
        """Publishes at every change, until cancelled; what changes while it pauses is published after the pause."""
        log = get_logger("envoy")
        async for replicas in changes:
            while True:
                try:
                    written = self.publish(render(replicas), replicas)
                    break
                except OSError as error:
                    if not self.stuck:
                        log.error("files cannot be written, the old ones serve on", reason=str(error))
                    self.stuck = True
                await asyncio.sleep(RETRY_S)
            if self.stuck:
                self.stuck = False
                log.info("files can be written again")
            if written:
                log.debug("published", files=[path.name for path in written])
                await asyncio.sleep(coalesce_s)
