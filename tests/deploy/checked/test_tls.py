"""TLS in front of a mesh: compose's nginx configuration, run by a real nginx, called by the Python client and others."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from sensorium import Client
from sensorium.errors import InvalidArgument
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from tests.mesh.running import RunningMesh, make_state, running_mesh
from tests.support.certificates import write_certificates

CONFIG = Path(__file__).parents[3] / "deploy" / "compose" / "tls.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
TIMEOUT_S = 30.0
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)"),
    pytest.mark.timeout(180),
]


@dataclass(frozen=True)
class Front:
    """nginx before a mesh: its port, and who signed its certificate."""

    port: int
    authority: Path
    mesh: RunningMesh


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    state = make_state(folder / "state", models_dir)
    with running_mesh(state, "--replicas", "vision=0,nlp=1,speech=0") as mesh, serving(folder, mesh) as port:
        yield Front(port, folder / "ca.crt", mesh)


@contextlib.contextmanager
def serving(folder: Path, mesh: RunningMesh) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CONFIG.read_text()
    for said, here in {
        "/tmp/": f"{folder}/",
        # Names are the container engine's, and releases before 1.27.3 look none up again.
        "gateway:8080 resolve;": f"{mesh.address};",
        "listen 8443": f"listen 127.0.0.1:{port}",
        "/run/secrets/tls-certificate": str(folder / "server.crt"),
        "/run/secrets/tls-key": str(folder / "server.key"),
    }.items():
        assert said in text
        text = text.replace(said, here)
    (folder / "nginx.conf").write_text(text)
    assert NGINX
    process = subprocess.Popen([NGINX, "-c", folder / "nginx.conf", "-g", "daemon off;"])
    try:
        channel = grpc.secure_channel(f"localhost:{port}", credentials(folder / "ca.crt"))
        grpc.channel_ready_future(channel).result(TIMEOUT_S)
        channel.close()
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def credentials(authority: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.read_bytes())


def test_typed_calls_and_their_errors_pass(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(front.authority))
    with Client(f"https://localhost:{front.port}", token=front.mesh.token) as client:
        assert client.classify_text("A dull plot, badly acted.").label == "negative"
        with pytest.raises(InvalidArgument, match=r"texts\[0\]"):
            client.classify_text("")


def test_json_passes_on_the_same_port(front: Front) -> None:

    context = ssl.create_default_context(cafile=str(front.authority))
    with httpx.Client(
        verify=context, base_url=f"https://localhost:{front.port}", timeout=TIMEOUT_S
    ) as client:
        body = {"texts": ["Wo bitte geht es zum Bahnhof?"]}
        refused = client.post("/v1/texts:detectLanguage", json=body)
        assert refused.status_code == 401
        assert "no token" in refused.json()["message"]
        headers = {"authorization": f"Bearer {front.mesh.token}"}
        answered = client.post("/v1/texts:detectLanguage", json=body, headers=headers)
        assert answered.json()["results"][0]["languages"][0]["code"] == "de"


async def test_a_stream_passes_message_by_message(front: Front) -> None:
    """Each answer comes before the next question is sent: nothing is held back on the way."""
    async with asyncio.timeout(TIMEOUT_S):
        async with grpc.aio.secure_channel(
            f"localhost:{front.port}", credentials(front.authority)
        ) as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            stream = stub.ModelStreamInfer(metadata=front.mesh.metadata)
            for number in range(3):
                await stream.write(question(str(number)))
                answer = await stream.read()
                assert not answer.error_message
                assert answer.infer_response.id == str(number)
            await stream.done_writing()
            assert await stream.code() == grpc.StatusCode.OK


def question(identity: str) -> inference_pb2.ModelInferRequest:
    """Token ids for MiniLM, as its graph takes them."""
    request = inference_pb2.ModelInferRequest(model_name="minilm", id=identity)
    for name in ("input_ids", "attention_mask"):
        tensor = request.inputs.add(name=name, datatype="INT64", shape=[1, 4])
        tensor.contents.int64_contents.extend(np.ones(4, np.int64).tolist())
    return request
