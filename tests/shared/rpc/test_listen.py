"""Addresses: those that can be had, and one readable line for those that cannot."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from shared.rpc.listen import AddressError
from tests.support.serving import serving
from tests.support.stub import call, echo, stub
from tests.support.waiting import within


async def test_a_unix_socket_serves(front: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/replica.sock"
    async with serving(stub(Echo=echo), front=front, address=address) as up:
        assert up.address == address
        assert await within(call(up.channel, "Echo", b"x")) == b"x"


async def test_a_taken_port_is_one_readable_error(front: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        with pytest.raises(AddressError, match=f"address {up.address} is in use") as caught:
            async with serving(stub(Echo=echo), front=front, address=up.address):
                pass
        assert "\n" not in str(caught.value)
        assert await within(call(up.channel, "Echo", b"x")) == b"x"


async def test_a_port_shared_by_its_owner_is_not_taken(front: str) -> None:
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        with pytest.raises(AddressError, match="is in use"):
            async with serving(front=front, address=f"127.0.0.1:{owner.getsockname()[1]}"):
                pass


async def test_a_unix_socket_in_use_is_not_replaced(front: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/replica.sock"
    async with serving(stub(Echo=echo), front=front, address=address) as up:
        with pytest.raises(AddressError, match="is in use"):
            async with serving(stub(Echo=echo), front=front, address=address):
                pass
        assert await within(call(up.channel, "Echo", b"x")) == b"x"


async def test_a_stale_unix_socket_is_replaced(front: str, tmp_path: Path) -> None:
    path = tmp_path / "replica.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    async with serving(stub(Echo=echo), front=front, address=f"unix:{path}") as up:
        assert await within(call(up.channel, "Echo", b"x")) == b"x"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:/nowhere/replica.sock", "the folder /nowhere does not exist"),
        ("192.0.2.1:0", "no such address"),
        ("host.invalid:0", "the host is unknown"),
    ],
)
async def test_addresses_that_cannot_be_had(front: str, address: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        async with serving(front=front, address=address):
            pass


async def test_a_file_in_the_way_of_a_socket_is_left_alone(front: str, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(AddressError, match="a file that is no socket"):
        async with serving(front=front, address=f"unix:{path}"):
            pass
    assert path.read_text() == "x"
