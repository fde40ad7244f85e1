"""Envoy's admin interface, asked over its Unix socket. Whoever may open that socket may stop Envoy: it is the owner's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

_TIMEOUT_S = 5.0


class AdminError(Exception):
    """The admin interface does not answer, or not as expected: there is no Envoy, or it is starting or stopping."""


class Admin:
    """One HTTP/1.1 request a connection; nothing is kept open."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def get(self, path: str) -> str:
        """Body of GET `path`. Raises AdminError."""
        return await self._ask("GET", path)

    async def post(self, path: str) -> str:
        """Body of POST `path`. Raises AdminError."""
        return await self._ask("POST", path)

    async def info(self) -> tuple[str, str]:
        """State (`LIVE`, `INITIALIZING`, `DRAINING`, …) and node id. Raises AdminError."""
        try:
            found = json.loads(await self.get("/server_info"))
            return str(found["state"]), str(found["node"]["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise AdminError("/server_info: expected state and node.id, got something else") from error

    async def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match `pattern` (RE2, anywhere in the name). Raises AdminError."""
        text = await self.get(f"/stats?filter={pattern}")
        pairs = (line.rpartition(": ") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    async def _ask(self, verb: str, path: str) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(
                        f"{verb} {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                    )
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    if " 200 " not in head.partition("\r\n")[0] + " ":
                        raise AdminError(f"{verb} {path}: expected 200, got {head.partition(chr(13))[0]!r}")
                    body = await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise AdminError(f"{verb} {path}: {error or 'no answer'}") from error
        return (_join_chunks(body) if "transfer-encoding: chunked" in head else body).decode()


def _join_chunks(body: bytes) -> bytes:
    """Undoes HTTP/1.1 chunked transfer coding (RFC 9112, section 7.1)."""
    whole, at = bytearray(), 0
    while True:
        end = body.find(b"\r\n", at)
        if end < 0:
            return bytes(whole)
        size = int(body[at:end].partition(b";")[0] or b"0", 16)
        if size == 0:
            return bytes(whole)
        whole += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
