"""What Prometheus gets from a gateway, by the real Envoy, and what nobody gets that way."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.control.metrics import NOT_PULLED
from tests.gateway.support.running import MESH, Gateway, eventually, say
from tests.gateway.support.toy import model
from tests.support.exposition import Labels, label, parse

NewGateway = Callable[..., Gateway]
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a port for Prometheus."""
    environ = {"SENSORIUM_GATEWAY_METRICS": "127.0.0.1:0"}
    with Gateway(tmp_path_factory.mktemp("gw"), environ=environ).running() as made:
        yield made


def metrics_url(gateway: Gateway) -> str:
    address = json.loads((gateway.run / "envoy.json").read_text())["metrics"]
    assert isinstance(address, str)
    return f"http://{address}"


def read(gateway: Gateway, path: str) -> dict[tuple[str, Labels], float]:
    answer = httpx.get(metrics_url(gateway) + path, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    return parse(answer.text)


async def test_the_data_plane_counts_calls(measured: Gateway) -> None:
    async with measured.replica():
        await say(measured, text="hello")
        found = read(measured, "/metrics")
        good = label(envoy_http_conn_manager_prefix="mesh", envoy_response_code_class="2")
        assert found["envoy_http_downstream_rq_xx", good] >= 1
        assert found["envoy_cluster_membership_healthy", label(envoy_cluster_name="toy")] == 1


async def test_the_control_plane_counts_replicas_and_models(measured: Gateway) -> None:
    ready = ("sensorium_gateway_replicas", label(service="toy", state="ready"))
    echo = ("sensorium_gateway_model_ready_replicas", label(service="toy", model="echo"))
    async with measured.replica():
        found = read(measured, "/metrics/control")
        assert found[ready] == 1
        assert found[echo] == 1
        assert found["sensorium_gateway_replicas", label(service="vision", state="ready")] == 0
        assert found["sensorium_gateway_name_unknown", label(service="toy")] == 0
        assert found["sensorium_gateway_envoy_starts_total", label()] == 1
        calls = {dict(labels).get("method") for name, labels in found if name == "sensorium_rpc_calls_total"}
        assert "ListReplicas" in calls
    found = read(measured, "/metrics/control")
    assert found[ready] == 0


async def test_a_model_that_no_replica_has_on_disk_is_not_missed(measured: Gateway) -> None:
    absent = model("absent", ready=False, reason=f"{NOT_PULLED} run `sensorium models pull absent`")
    damaged = model("absent", ready=False, reason="model.onnx: its digest is another")
    ready = ("sensorium_gateway_model_ready_replicas", label(service="toy", model="absent"))
    known = ("sensorium_gateway_model_replicas", label(service="toy", model="absent"))
    async with measured.replica(models=[model("echo"), absent]):
        found = read(measured, "/metrics/control")
        assert ready not in found
        assert found[known] == 1
        async with measured.replica(models=[model("echo"), damaged]):
            found = read(measured, "/metrics/control")
            assert found[ready] == 0
            assert found[known] == 2


@pytest.mark.parametrize("verb", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/quitquitquit",
        "/healthcheck/fail",
        "/drain_listeners",
        "/config_dump",
        "/clusters",
        "/listeners",
        "/certs",
        "/memory",
        "/server_info",
        "/logging?level=trace",
        "/stats",
        "/stats/prometheus",
        "/runtime",
        "/metrics/../quitquitquit",
        "/metrics/control/../../config_dump",
        "/metrics%2f..%2fquitquitquit",
        "//quitquitquit",
        "/metrics/",
        "/sensorium.mesh.v1.MeshService/ListReplicas",
    ],
)
def test_nothing_else_of_the_gateway_is_there(measured: Gateway, verb: str, path: str) -> None:
    parts = urlsplit(metrics_url(measured))
    # As it is written: a client that tidies paths would hide what comes of them.
    with httpx.Client(timeout=TIMEOUT_S) as client:
        url = httpx.URL(scheme="http", host=parts.hostname, port=parts.port, raw_path=path.encode())
        answer = client.request(verb, url)
    assert answer.status_code == 404, (answer.status_code, answer.text[:200])
    assert not answer.content


@pytest.mark.parametrize("path", ["/metrics", "/metrics/control"])
def test_it_is_read_and_not_written(measured: Gateway, path: str) -> None:
    for verb in ("POST", "PUT", "DELETE"):
        assert httpx.request(verb, metrics_url(measured) + path, timeout=TIMEOUT_S).status_code == 404


@pytest.mark.parametrize("path", ["/metrics", "/metrics/control"])
def test_a_question_behind_the_path_changes_nothing(measured: Gateway, path: str) -> None:
    assert httpx.get(f"{metrics_url(measured)}{path}?a=b", timeout=TIMEOUT_S).status_code == 200


def test_a_body_is_no_second_question(measured: Gateway) -> None:
    """What is sent as a body must not become the answer to somebody else."""
    head = b"GET /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(TIMEOUT_S)
        caller.connect(str(measured.run / "metrics.sock"))
        caller.sendall(head + b"\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n")
        answered = b"".join(iter(lambda: caller.recv(65_536), b""))
    assert answered.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert b"\r\nconnection: close" in answered.partition(b"\r\n\r\n")[0]


async def test_those_who_ask_are_bounded_and_a_place_becomes_free(measured: Gateway) -> None:
    parts = urlsplit(metrics_url(measured))
    address = (str(parts.hostname), int(parts.port or 0))
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address, TIMEOUT_S)) for _ in range(80)]
        for caller in held:
            with contextlib.suppress(OSError):
                caller.sendall(b"GET /metrics/control HTTP/1.1\r\nhost: a\r\nx: ")
        refused = sum(_is_closed(caller) for caller in held)
    assert refused == 80 - 64

    async def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{metrics_url(measured)}/metrics", timeout=TIMEOUT_S).status_code == 200
        return False

    await eventually(answers, "the places of those who left are free")


def _is_closed(caller: socket.socket) -> bool:
    caller.settimeout(0.2)
    try:
        return caller.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


async def test_connections_beyond_the_bound_are_counted(new_gateway: NewGateway) -> None:
    mesh = MESH.replace("limits: {", "limits: {max_connections: 8, ")
    gateway = new_gateway(mesh=mesh, SENSORIUM_GATEWAY_METRICS="127.0.0.1:0")
    gateway.start()
    assert refused(gateway) == 0
    host, _, port = gateway.address.partition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT_S))

        async def counted() -> bool:
            return refused(gateway) >= 4

        # Whoever measures is still answered.
        await eventually(counted, "those who were refused are counted")


def refused(gateway: Gateway) -> float:
    """Connections that were closed because too many were open."""
    found = read(gateway, "/metrics")
    return sum(found[key] for key in found if key[0] == "envoy_listener_downstream_global_cx_overflow")


async def test_the_data_planes_counts_outlive_the_control_plane(new_gateway: NewGateway) -> None:
    gateway = new_gateway(SENSORIUM_GATEWAY_METRICS="127.0.0.1:0")
    gateway.start()
    url, envoy = metrics_url(gateway), gateway.envoy_pid
    gateway.kill()
    assert httpx.get(f"{url}/metrics", timeout=TIMEOUT_S).status_code == 200
    assert httpx.get(f"{url}/metrics/control", timeout=TIMEOUT_S).status_code == 503
    gateway.start()
    assert (gateway.envoy_pid, metrics_url(gateway)) == (envoy, url)

    async def again() -> bool:
        return httpx.get(f"{url}/metrics/control", timeout=TIMEOUT_S).status_code == 200

    await eventually(again, "the control plane's metrics are back")
    assert read(gateway, "/metrics/control")["sensorium_gateway_envoy_starts_total", label()] == 0


def test_without_a_word_there_is_no_such_port(gateway: Gateway) -> None:
    assert json.loads((gateway.run / "envoy.json").read_text())["metrics"] is None
    assert '"name": "metrics"' not in (gateway.run / "bootstrap.json").read_text()


def test_a_taken_port_is_one_line(new_gateway: NewGateway, measured: Gateway) -> None:
    taken = metrics_url(measured).removeprefix("http://")
    said = new_gateway(SENSORIUM_GATEWAY_METRICS=taken).refuse()
    assert said == f"cannot start: address {taken} is in use; stop its owner or choose another"
