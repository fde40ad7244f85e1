"""A fourth service is one proto, one folder and one entry in mesh.yaml: added in a copy of the tree, it answers
through the unmodified gateway over gRPC, JSON and reflection.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import yaml
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.identity.key import load_or_create
from gateway.identity.token import mint
from tests.mesh.running import ROOT, RunningMesh, running_mesh

PROTO = """
syntax = "proto3";

// Counts letters.
package acme.letters.v1;

import "google/api/annotations.proto";

// Counts letters.
service LettersService {
  // Counts the letters of a text.
  rpc CountLetters(CountLettersRequest) returns (CountLettersResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (google.api.http) = {post: "/v1/letters:count" body: "*"};
  }
}

// Request of CountLetters.
message CountLettersRequest {
  // Required. The text; INVALID_ARGUMENT if empty.
  string text = 1;
}

// Reply of CountLetters.
message CountLettersResponse {
  // Letters in the text.
  int32 count = 1;
}
"""

MAIN = '''
"""Counts letters."""

from acme.letters.v1 import letters_service_pb2 as pb
from acme.letters.v1 import letters_service_pb2_grpc as pb_grpc

from shared.errors import InvalidArgument
from shared.rpc.main import run
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from shared.settings import Settings, load


class LettersSettings(Settings):
    rpc: RpcSettings = RpcSettings()


class LettersServicer(pb_grpc.LettersServiceServicer):
    async def CountLetters(self, request, context):
        if not request.text:
            raise InvalidArgument("text", expected="at least one character", got="an empty text")
        return pb.CountLettersResponse(count=sum(map(str.isalpha, request.text)))


async def build():
    settings = load(LettersSettings, "letters")
    register = lambda server: pb_grpc.add_LettersServiceServicer_to_server(LettersServicer(), server)
    return Server(settings.rpc, service="letters", replica=Replica("letters"), register=[register])


run(build)
'''
CODE = ("cli", "clients", "gateway", "services", "shared", "deploy")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the service in it: nothing that was there is changed."""
    tree = tmp_path_factory.mktemp("added") / "tree"
    for part in CODE:
        shutil.copytree(
            ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
    source = tree / "protos/acme/letters/v1/letters_service.proto"
    source.parent.mkdir(parents=True)
    source.write_text(PROTO)
    protoc = [
        ROOT / ".venv-protos/bin/python",
        "-m",
        "grpc_tools.protoc",
        f"-I{tree / 'protos'}",
        f"-I{ROOT / 'protos'}",
    ]
    outputs = [f"--python_out={tree}", f"--grpc_python_out={tree}", "--include_imports"]
    outputs.append(f"--descriptor_set_out={tree / 'letters.binpb'}")
    subprocess.run([*protoc, *outputs, source], check=True, timeout=60)
    folder = tree / "services/letters"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Counts letters."""\n')
    (folder / "__main__.py").write_text(MAIN)
    return tree


@pytest.fixture(scope="module")
def added(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    config = yaml.safe_load((ROOT / "deploy/mesh.yaml").read_text())
    config["services"] = [
        {
            "name": "letters",
            "grpc": ["acme.letters.v1.LettersService"],
            "descriptors": str(tree / "letters.binpb"),
        }
    ]
    path = tree / "mesh.yaml"
    path.write_text(yaml.safe_dump(config))
    state = tmp_path_factory.mktemp("added") / "state"
    # The copy comes first on the path, so that it is the copy that runs.
    with running_mesh(state, "--config", str(path), environ={"PYTHONPATH": str(tree)}, cwd=tree) as mesh:
        key = load_or_create(mesh.state / "keys")
        token = mint(key, subject="tester", scopes=["letters"], lifetime_s=600)
        yield RunningMesh(mesh.address, token, mesh.state, mesh.process)


def test_it_answers_over_grpc(tree: Path, added: RunningMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tree))
    pb = importlib.import_module("acme.letters.v1.letters_service_pb2")
    pb_grpc = importlib.import_module("acme.letters.v1.letters_service_pb2_grpc")
    with grpc.insecure_channel(added.address) as channel:
        stub = pb_grpc.LettersServiceStub(channel)
        reply = stub.CountLetters(pb.CountLettersRequest(text="a b c"), metadata=added.metadata, timeout=10)
        assert reply.count == 3
        with pytest.raises(grpc.RpcError) as refused:
            stub.CountLetters(pb.CountLettersRequest(), metadata=added.metadata, timeout=10)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details().startswith("text: expected")
        with pytest.raises(grpc.RpcError) as refused:
            stub.CountLetters(pb.CountLettersRequest(text="a"), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_it_answers_over_json(added: RunningMesh) -> None:
    headers = {"authorization": f"Bearer {added.token}"}
    url = f"http://{added.address}/v1/letters:count"
    reply = httpx.post(url, json={"text": "a b c"}, headers=headers, timeout=10)
    assert (reply.status_code, reply.json()) == (200, {"count": 3})
    assert httpx.post(url, json={"text": ""}, headers=headers, timeout=10).status_code == 400
    assert httpx.post(url, json={"text": "a"}, timeout=10).status_code == 401


def test_reflection_knows_it(added: RunningMesh) -> None:
    class Authorized(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, continuation, details, requests):
            return continuation(details._replace(metadata=added.metadata), requests)

    with grpc.insecure_channel(added.address) as plain:
        channel = grpc.intercept_channel(plain, Authorized())
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "acme.letters.v1.LettersService" in database.get_services()
        file = database.FindFileContainingSymbol("acme.letters.v1.LettersService")
    assert [method.name for method in file.service[0].method] == ["CountLetters"]
