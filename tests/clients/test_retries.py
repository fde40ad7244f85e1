"""What the client tries again, when, and what it does not, by the attempts that arrive at a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import grpc
import pytest
from sensorium import AsyncClient, Client, errors

from tests.clients.flaky_proxy import PUSHBACK_S, flaky_proxy
from tests.clients.mesh_in_process import Seen
from tests.support.waiting import within

EARLY_S = 0.02


@dataclass
class Failing(grpc.GenericRpcHandler):
    """Answers every call of any method with one status, and says when to come back."""

    code: grpc.StatusCode
    pushback_ms: int | None = None
    attempts: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self.lock:
                self.attempts.append(time.monotonic())
            if self.pushback_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(self.pushback_ms)),))
            context.abort(self.code, "as asked")
            raise AssertionError("abort raises")

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def failing(code: grpc.StatusCode, pushback_ms: int | None = None) -> Iterator[tuple[Failing, str]]:
    handler = Failing(code, pushback_ms)
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield handler, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


def test_a_mesh_that_is_not_there_for_a_moment_goes_unnoticed(seen: Seen, address: str) -> None:
    with flaky_proxy(address) as proxy, Client(proxy.address, token="secret", timeout_s=20) as client:
        assert client.embed_text("a").token_count == 1
        assert [attempt.previous for attempt in proxy.attempts] == [0, 1, 2]
        waits_s = [after.at_s - before.at_s for before, after in pairwise(proxy.attempts)]
        assert min(waits_s) >= PUSHBACK_S - EARLY_S
    assert seen.metadata[-1]["authorization"] == "Bearer secret"


async def test_the_async_client_does_likewise(address: str) -> None:
    with flaky_proxy(address) as proxy:
        async with AsyncClient(proxy.address, token="", timeout_s=20) as client:
            assert (await within(client.embed_text("a"))).token_count == 1
    assert len(proxy.attempts) == 3


def test_what_is_larger_than_grpc_keeps_by_default_is_sent_again_too(address: str) -> None:
    with flaky_proxy(address) as proxy, Client(proxy.address, token="", timeout_s=20) as client:
        assert client.detect_faces(b"x" * (3 << 20)).faces
        assert len(proxy.attempts) == 3


@pytest.mark.parametrize(
    ("code", "pushback_ms", "attempts"),
    [
        (grpc.StatusCode.UNAVAILABLE, 1, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1, 4),
        # A message that is too large: the mesh says that it always will be.
        (grpc.StatusCode.RESOURCE_EXHAUSTED, -1, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, None, 1),
        (grpc.StatusCode.NOT_FOUND, None, 1),
        (grpc.StatusCode.INTERNAL, None, 1),
        (grpc.StatusCode.UNAUTHENTICATED, None, 1),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, 1),
    ],
)
def test_what_is_tried_again(code: grpc.StatusCode, pushback_ms: int | None, attempts: int) -> None:
    with failing(code, pushback_ms) as (server, address), Client(address, token="") as client:
        with pytest.raises(errors.SensoriumError) as caught:
            client.embed_text("a", timeout_s=20)
        assert caught.value.code == code.name
        assert len(server.attempts) == attempts


async def test_retries_may_be_turned_off() -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 1) as (server, address):
        with Client(address, token="", retries=False) as client, pytest.raises(errors.Unavailable):
            client.embed_text("a")
        async with AsyncClient(address, token="", retries=False) as client:
            with pytest.raises(errors.Unavailable):
                await within(client.embed_text("a"))
    assert len(server.attempts) == 2


def test_what_changes_the_mesh_is_not_tried_again() -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 1) as (server, address), Client(address, token="") as client:
        with pytest.raises(errors.Unavailable):
            client.load_model("nlp/minilm")
        with pytest.raises(errors.Unavailable):
            client.unload_model("nlp/minilm")
    assert len(server.attempts) == 2


def test_the_deadline_holds_over_all_attempts() -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 60_000) as (_, address), Client(address, token="") as client:
        began_s = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            client.embed_text("a", timeout_s=0.5)
        assert time.monotonic() - began_s < 5


def test_a_mesh_that_stays_away_is_not_asked_four_times_by_everybody() -> None:
    with failing(grpc.StatusCode.UNAVAILABLE, 1) as (server, address), Client(address, token="") as client:
        for _ in range(60):
            with pytest.raises(errors.Unavailable):
                client.embed_text("a", timeout_s=20)
    # The budget is spent at half of its 100 tokens, a token an attempt; from then on a call is one attempt.
    assert 60 < len(server.attempts) <= 60 + 50
