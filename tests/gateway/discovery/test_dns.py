"""Replicas by name, asked of a real name server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import structlog
from pydantic import ValidationError

from gateway.config import Mesh
from gateway.discovery.dns import DnsMembership
from gateway.discovery.membership import Insert, Remove, Settled
from gateway.discovery.roster import Roster
from gateway.discovery.watch import Watcher
from tests.support.name_server import NameServer
from tests.support.waiting import take, within


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


def follow(server: NameServer, **names: str) -> DnsMembership:
    return DnsMembership(names, server=server.address, refresh_s=0.01)


async def test_replicas_come_and_go_with_the_records(server: NameServer) -> None:
    server.records["vision.test"] = ["127.0.0.2", "127.0.0.3"]
    changes = follow(server, vision="vision.test:50051").changes()
    assert [await take(changes) for _ in range(3)] == [
        Insert("vision", "127.0.0.2:50051"),
        Insert("vision", "127.0.0.3:50051"),
        Settled(),
    ]
    server.records["vision.test"] = ["127.0.0.3", "127.0.0.4", "::1"]
    assert await take(changes) == Remove("vision", "127.0.0.2:50051")
    assert await take(changes) == Insert("vision", "127.0.0.4:50051")
    assert await take(changes) == Insert("vision", "[::1]:50051")
    del server.records["vision.test"]
    gone = {(await take(changes)).endpoint for _ in range(3)}
    assert gone == {"127.0.0.3:50051", "127.0.0.4:50051", "[::1]:50051"}
    await changes.aclose()


async def test_a_name_that_is_not_there_yet_holds_nobody(server: NameServer) -> None:
    changes = follow(server, nlp="nlp.test:1").changes()
    assert await take(changes) == Settled()
    server.records["nlp.test"] = ["127.0.0.9"]
    assert await take(changes) == Insert("nlp", "127.0.0.9:1")
    await changes.aclose()


@pytest.mark.parametrize("how", ["refuses", "is silent"])
async def test_what_is_known_stays_while_the_server_fails(server: NameServer, how: str) -> None:
    server.records["nlp.test"] = ["127.0.0.9"]
    with structlog.testing.capture_logs() as logs:
        changes = follow(server, nlp="nlp.test:1").changes()
        assert [await take(changes), await take(changes)] == [Insert("nlp", "127.0.0.9:1"), Settled()]
        server.failing = how
        following = asyncio.ensure_future(anext(changes))
        while not any("cannot be looked up" in line["event"] for line in logs):
            assert not following.done()
            await within(asyncio.sleep(0.01))
        server.failing = ""
        server.records["nlp.test"] = ["127.0.0.9", "127.0.0.10"]
        assert await within(following) == Insert("nlp", "127.0.0.10:1")
    assert [line["event"] for line in logs] == ["name cannot be looked up", "name can be looked up again"]
    await changes.aclose()


async def test_many_replicas_of_one_name(server: NameServer) -> None:
    """More than a datagram of 512 bytes holds: asked again over TCP."""
    server.records["nlp.test"] = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(300)]
    changes = follow(server, nlp="nlp.test:1").changes()
    found = {(await take(changes)).endpoint for _ in range(300)}
    assert len(found) == 300
    assert await take(changes) == Settled()
    await changes.aclose()


async def test_an_alias_that_leads_nowhere_removes_nobody(server: NameServer) -> None:
    server.records["nlp.test"] = ["127.0.0.9"]
    changes = follow(server, nlp="nlp.test:1").changes()
    assert [await take(changes), await take(changes)] == [Insert("nlp", "127.0.0.9:1"), Settled()]
    with structlog.testing.capture_logs() as logs:
        following = asyncio.ensure_future(anext(changes))
        server.aliases["nlp.test"] = "elsewhere.test"
        while not logs:
            assert not following.done()
            await within(asyncio.sleep(0.01))
    assert "is an alias of elsewhere.test" in logs[0]["reason"]
    following.cancel()


async def test_addresses_that_are_nobodys_are_left_out(server: NameServer) -> None:
    server.records["nlp.test"] = ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "fe80::1", "127.0.0.9"]
    changes = follow(server, nlp="nlp.test:1").changes()
    assert [await take(changes), await take(changes)] == [Insert("nlp", "127.0.0.9:1"), Settled()]
    await changes.aclose()


async def test_a_name_of_thousands_is_not_believed(server: NameServer) -> None:
    server.records["nlp.test"] = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(1_001)]
    changes = follow(server, nlp="nlp.test:1").changes()
    assert await take(changes) == Settled()
    await changes.aclose()


async def test_one_name_that_fails_does_not_hold_up_another(server: NameServer) -> None:
    server.records |= {"a.test": ["127.0.0.2"], "b.test": ["127.0.0.3"]}
    server.broken = {"a.test"}
    changes = follow(server, a="a.test:1", b="b.test:2").changes()
    assert [await take(changes), await take(changes)] == [Insert("b", "127.0.0.3:2"), Settled()]
    await changes.aclose()


async def test_the_roster_has_them_before_the_gateway_starts(server: NameServer) -> None:
    """An Envoy that is taken over would otherwise be told that there is nobody."""
    server.records["vision.test"] = ["127.0.0.2"]
    roster = Roster()
    watcher = Watcher(roster, [follow(server, vision="vision.test:9")])
    running = asyncio.create_task(watcher.run())
    await within(watcher.started.wait())
    assert [replica.endpoint for replica in roster.replicas] == ["127.0.0.2:9"]
    running.cancel()
    await within(asyncio.gather(running, return_exceptions=True))


@pytest.mark.parametrize("named", ["vision", "vision:port", "unix:/x", ":1", "a b:1"])
def test_what_is_no_name_with_a_port_is_refused(named: str) -> None:
    with pytest.raises(ValidationError, match="dns"):
        Mesh.model_validate({"services": [{"name": "a", "grpc": ["a.B"], "dns": named}]})
