"""What a replica's front is compared with: a bare grpc.aio server that sends back the bytes it gets.

`python -m tests.benchmarks.echo [FOLDER]` prints its address and serves until it is killed; with the folder of
`certificates.py`, by TLS on both sides.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

UNARY, BIDI = "Echo", "StreamingEcho"
SERVICE = "sensorium.bench.v1.EchoService"


async def echo(request: bytes, context: Any) -> bytes:
    """Sends the message back."""
    return request


async def streaming_echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Sends each message back."""
    async for request in requests:
        yield request


async def serve(certificates: Path | None) -> None:
    """Listens on a free port."""
    server = grpc.aio.server()
    server.add_registered_method_handlers(  # type: ignore[attr-defined]
        SERVICE,
        {
            UNARY: grpc.unary_unary_rpc_method_handler(echo),
            BIDI: grpc.stream_stream_rpc_method_handler(streaming_echo),
        },
    )
    if certificates is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = ((certificates / "server.key").read_bytes(), (certificates / "server.crt").read_bytes())
        ca = (certificates / "ca.crt").read_bytes()
        port = server.add_secure_port(
            "localhost:0", grpc.ssl_server_credentials([pair], ca, require_client_auth=True)
        )
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
