"""A gRPC proxy in front of a mesh that fails the first attempts of a call, as a mesh does that has just lost a replica."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

# Attempts that are refused, and how long their callers are told to wait: longer than the retry policy's own first waits.
REFUSED = 2
PUSHBACK_S = 0.3
# gRPC's own count of earlier attempts, which only its own retries send.
_PREVIOUS = "grpc-previous-rpc-attempts"


@dataclass(frozen=True)
class Attempt:
    """One arrival: when, by the monotonic clock, and how many attempts gRPC says there were before."""

    at_s: float
    previous: int


@dataclass
class FlakyProxy(grpc.GenericRpcHandler):
    """Forwards unary calls of any method, bytes as they are, after refusing the first `REFUSED` arrivals."""

    upstream: grpc.Channel
    address: str = ""
    attempts: list[Attempt] = field(default_factory=list)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """See grpc.GenericRpcHandler."""
        forward = self.upstream.unary_unary(details.method)

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            sent = dict(context.invocation_metadata())
            self.attempts.append(Attempt(time.monotonic(), int(sent.get(_PREVIOUS, 0))))
            if len(self.attempts) <= REFUSED:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(round(PUSHBACK_S * 1000))),))
                context.abort(
                    grpc.StatusCode.UNAVAILABLE, f"refused for a test, {len(self.attempts)} of {REFUSED}"
                )
            kept = [
                (key, value)
                for key, value in sent.items()
                if key in ("authorization", "x-sensorium-priority")
            ]
            return forward(request, metadata=kept, timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def flaky_proxy(upstream: str) -> Iterator[FlakyProxy]:
    """A proxy of the mesh at `upstream` on a free port."""
    with grpc.insecure_channel(upstream) as channel:
        proxy = FlakyProxy(channel)
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[proxy])
        proxy.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield proxy
        finally:
            server.stop(None).wait(10)
