"""TLS on a replica's port, with real certificates."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from shared.rpc.tls import TlsError
from tests.support.certificates import write_certificates
from tests.support.stub import call, echo, stub
from tests.support.waiting import within


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_certificates(tmp_path)
    return tmp_path


def settings(folder: Path, **more: Any) -> RpcSettings:
    fields: dict[str, Any] = {
        "front": "grpcio",
        "drain_notice_s": 0.0,
        "tls_certificate_file": folder / "server.crt",
        "tls_key_file": folder / "server.key",
        "tls_client_ca_file": folder / "ca.crt",
        **more,
    }
    return RpcSettings(**fields)


@asynccontextmanager
async def running(rpc: RpcSettings) -> AsyncIterator[str]:
    server = Server(rpc, service="stub", replica=Replica("stub"), register=[stub(Echo=echo)])
    try:
        yield await within(server.start())
    finally:
        await within(server.stop())


def connect(address: str, folder: Path, *, client: bool = True) -> grpc.aio.Channel:
    pair = {}
    if client:
        pair = {
            "private_key": (folder / "client.key").read_bytes(),
            "certificate_chain": (folder / "client.crt").read_bytes(),
        }
    credentials = grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes(), **pair)
    return grpc.aio.secure_channel(f"localhost:{address.rpartition(':')[2]}", credentials)


async def test_a_client_with_a_certificate_is_let_in(folder: Path) -> None:
    async with running(settings(folder)) as address, connect(address, folder) as channel:
        assert await within(call(channel, "Echo", b"sealed")) == b"sealed"


async def test_a_client_without_one_is_not(folder: Path) -> None:
    async with running(settings(folder)) as address, connect(address, folder, client=False) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(channel, "Echo"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_neither_is_one_of_another_authority(folder: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    write_certificates(stranger)
    shutil.copy(folder / "ca.crt", stranger / "ca.crt")
    async with running(settings(folder)) as address, connect(address, stranger) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(channel, "Echo"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_client_authority_every_client_may_come(folder: Path) -> None:
    rpc = settings(folder, tls_client_ca_file=None)
    async with running(rpc) as address, connect(address, folder, client=False) as channel:
        assert await within(call(channel, "Echo", b"sealed")) == b"sealed"


async def test_a_plain_client_gets_nothing(folder: Path) -> None:
    async with running(settings(folder)) as address, grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(call(channel, "Echo"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_renewed_certificates_hold_from_the_next_connection_on(folder: Path) -> None:
    async with running(settings(folder)) as address:
        async with connect(address, folder) as channel:
            await within(call(channel, "Echo"))
        write_certificates(folder)
        async with connect(address, folder) as channel:
            assert await within(call(channel, "Echo", b"again")) == b"again"


async def test_the_native_front_says_what_to_do(folder: Path) -> None:
    with pytest.raises(TlsError, match=r"Unix socket behind an Envoy that does, or set RPC__FRONT=grpcio"):
        async with running(settings(folder, front="native")):
            pass


async def test_files_that_cannot_be_used_are_named(folder: Path) -> None:
    with pytest.raises(TlsError, match=r"TLS key: no file .*absent\.key"):
        async with running(settings(folder, tls_key_file=folder / "absent.key")):
            pass
    with pytest.raises(
        TlsError, match=r"client\.key: expected PEM files that belong together, got key values mismatch"
    ):
        async with running(settings(folder, tls_key_file=folder / "client.key")):
            pass
    (folder / "empty").touch()
    with pytest.raises(TlsError, match=r"TLS client CA .*empty: expected certificates as PEM"):
        async with running(settings(folder, tls_client_ca_file=folder / "empty")):
            pass


def test_half_of_it_is_refused(folder: Path) -> None:
    with pytest.raises(ValidationError, match="expected both or neither"):
        settings(folder, tls_key_file=None, tls_client_ca_file=None)
    with pytest.raises(ValidationError, match="tls_client_ca_file: expected tls_certificate_file"):
        settings(folder, tls_certificate_file=None, tls_key_file=None)
