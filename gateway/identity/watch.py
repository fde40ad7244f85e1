"""The public keys of tokens, read again whenever their file changes: a new key needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.identity.key import KeyFileError, read_public_set
from shared.telemetry.logging import get_logger

# Between looks. By content: a volume that Kubernetes swaps has neither a new path nor, for certain, a new time.
_LOOK_S = 1.0


class KeyWatch:
    """text: the public key set of a file as JSON, the last one that could be read."""

    def __init__(self, path: Path) -> None:
        """Raises KeyFileError if there is no set now."""
        self.path = path
        self.text = read_public_set(path)

    async def run(self, take_over: Callable[[], Awaitable[None]]) -> None:
        """Calls `take_over` after every change, and again as long as it raises KeyFileError or OSError; runs until
        cancelled.
        """
        log = get_logger("gateway")
        told, taken = "", self.text
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                self.text = await asyncio.to_thread(read_public_set, self.path)
                if self.text != taken:
                    await take_over()
                    taken = self.text
                    log.info("public keys taken over")
                told = ""
            except (KeyFileError, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    log.error("public keys cannot be taken over, the old ones serve on", reason=told)
