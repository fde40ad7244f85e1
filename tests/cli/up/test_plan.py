"""What is run for a mesh, before anything is run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from sensorium.results import ModelInfo, ReplicaInfo

from cli.failure import CommandError
from cli.up.endpoints import Endpoints
from cli.up.plan import DEFAULT_CONFIG, MeshPlan, make_plan, parse_replicas, share_cores
from cli.up.ready import judge
from cli.up.token_file import ensure_token, keys_folder
from gateway.config import ConfigError, read_mesh
from gateway.identity.key import load_or_create
from gateway.identity.token import inspect
from services.nlp.settings import NlpSettings
from services.vision.settings import VisionSettings
from shared.settings import load


def make_state(folder: Path) -> Path:
    for service, model in (("vision", "pp-ocr"), ("nlp", "minilm"), ("speech", "silero-vad")):
        artifact = folder / "models" / service / model / "1" / "artifact.json"
        artifact.parent.mkdir(parents=True)
        artifact.write_text("{}")
    return folder


def plan(state: Path, environ: dict[str, str] | None = None, **replicas: int) -> MeshPlan:
    return make_plan(
        read_mesh(DEFAULT_CONFIG),
        state,
        listen="127.0.0.1:0",
        admin_port=0,
        replicas=replicas,
        cores=8,
        environ=environ or {},
    )


def test_one_replica_of_each_service_and_a_gateway(tmp_path: Path) -> None:
    made = plan(make_state(tmp_path))
    assert [replica.name for replica in made.replicas] == ["vision-0", "nlp-0", "speech-0"]
    assert made.services == ("vision", "nlp", "speech")
    assert set(made.scopes) == {"vision", "nlp", "speech", "mesh", "admin"}
    assert made.gateway.environ["SENSORIUM_GATEWAY_LISTEN"] == "127.0.0.1:0"
    assert made.gateway.environ["SENSORIUM_GATEWAY_ADDRESS_FILE"] == str(made.gateway.address_file)
    vision = made.replicas[0].environ
    assert vision["SENSORIUM_VISION_RPC__ADDRESS"] == "127.0.0.1:0"
    assert vision["SENSORIUM_VISION_INFERENCE__CORES"] == "3"
    assert "glibc.malloc" in vision["GLIBC_TUNABLES"]
    assert vision["SENSORIUM_STATE_DIR"] == str(tmp_path)


def test_replicas_are_told_whose_models_they_serve(tmp_path: Path) -> None:
    state = make_state(tmp_path / "state")
    nlp = plan(state, vision=0, speech=0).replicas[0].environ
    assert nlp["SENSORIUM_NLP_INFERENCE__SIGNATURE__REQUIRED"] == "true"
    assert json.loads(nlp["SENSORIUM_NLP_INFERENCE__SIGNATURE__TRUSTED"]) == [
        str(state / "keys" / "artifacts" / "jwks.json")
    ]
    assert load(NlpSettings, "nlp", nlp).inference.signature.required
    # What somebody says for himself is stronger.
    own = {"SENSORIUM_NLP_INFERENCE__SIGNATURE__REQUIRED": "false"}
    nlp = plan(state, own, vision=0, speech=0).replicas[0].environ
    assert nlp.items() >= own.items()


def test_keys_of_others_are_named_in_the_file(tmp_path: Path) -> None:
    state = make_state(tmp_path / "state")
    load_or_create(tmp_path / "release")
    config = tmp_path / "mesh.yaml"
    text = DEFAULT_CONFIG.read_text()
    assert "artifacts:\n" in text

    def read(path: str) -> MeshPlan:
        config.write_text(text.replace("artifacts:\n", f"artifacts:\n  trusted: [{path}]\n"))
        return make_plan(
            read_mesh(config), state, listen="127.0.0.1:0", admin_port=0, replicas={}, cores=8, environ={}
        )

    environ = read("release/jwks.json").replicas[0].environ
    settings = load(VisionSettings, "vision", environ).inference.signature
    assert settings.trusted == (tmp_path / "release" / "jwks.json",)
    for path, says in (
        (
            "missing.json",
            r"mesh\.yaml:\d+: artifacts\.trusted\[0\]: expected a file of public keys .*missing\.json",
        ),
        ("release/signing.pem", r"artifacts\.trusted\[0\]: .*expected a JSON Web Key Set"),
    ):
        with pytest.raises(ConfigError, match=says):
            read(path)


def test_counts_and_threads_are_as_asked(tmp_path: Path) -> None:
    own = {"SENSORIUM_NLP_INFERENCE__CORES": "5", "GLIBC_TUNABLES": "glibc.malloc.check=1"}
    made = plan(make_state(tmp_path), own, vision=2, speech=0)
    assert [replica.name for replica in made.replicas] == ["vision-0", "vision-1", "nlp-0"]
    assert made.replicas[2].environ.items() >= own.items()


def test_a_service_without_pulled_models_is_refused_unless_it_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError,
        match=r"no model of 'vision' is pulled in .*: run sensorium models pull vision --state-dir /",
    ):
        plan(tmp_path)
    assert plan(tmp_path, vision=0, nlp=0, speech=0).replicas == ()


def test_a_count_for_an_unknown_service(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="has no service 'audio'; it has vision, nlp, speech"):
        plan(make_state(tmp_path), audio=1)


def test_a_service_without_code(tmp_path: Path) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text("services: [{name: letters, grpc: [acme.letters.v1.LettersService]}]")

    def make(**replicas: int) -> MeshPlan:
        return make_plan(
            read_mesh(config),
            tmp_path,
            listen="127.0.0.1:0",
            admin_port=0,
            replicas=replicas,
            cores=2,
            environ={},
        )

    with pytest.raises(CommandError, match="service 'letters' has no code here"):
        make()
    assert make(letters=0).replicas == ()
    config.write_text(
        "services: [{name: letters, grpc: [acme.letters.v1.LettersService], replicas: ['10.0.0.1:1']}]"
    )
    assert make().replicas == ()


@pytest.mark.parametrize(
    ("cores", "counts", "threads"),
    [
        (2, [1, 1, 1], [1, 1, 1]),
        (8, [1, 1, 1], [3, 3, 2]),
        (8, [2, 1, 1], [2, 2, 2]),
        (9, [2, 1, 1], [2, 3, 2]),
        (16, [4, 0, 0], [4, 4, 4]),
        (4, [], []),
        (4, [0, 0], [1, 1]),
    ],
)
def test_replicas_times_threads_are_the_cores(cores: int, counts: list[int], threads: list[int]) -> None:
    assert share_cores(cores, counts) == threads


def test_replica_counts_are_parsed() -> None:
    assert parse_replicas(["vision=2,nlp=0", " speech = 3 "]) == {"vision": 2, "nlp": 0, "speech": 3}
    assert parse_replicas([]) == {}
    for wrong in ("vision", "vision=", "vision=-1", "vision=two", "=2", "vision=1000"):
        with pytest.raises(CommandError, match="expected SERVICE=COUNT") as raised:
            parse_replicas([wrong])
        assert raised.value.exit_code == 2


def test_endpoints_are_whole_files_that_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "endpoints"
    (folder / "nlp").mkdir(parents=True)
    (folder / "nlp" / "stale").write_text("127.0.0.1:1")
    endpoints = Endpoints(folder)
    endpoints.publish("nlp", "nlp-0", "127.0.0.1:2")
    assert [(path.name, path.read_text()) for path in (folder / "nlp").iterdir()] == [
        ("nlp-0", "127.0.0.1:2")
    ]
    endpoints.publish("nlp", "nlp-0", None)
    endpoints.publish("nlp", "nlp-1", None)
    assert list((folder / "nlp").iterdir()) == []


def test_the_development_token_is_made_kept_and_renewed(tmp_path: Path) -> None:
    names = {"issuer": "sensorium", "audience": "sensorium"}
    path = ensure_token(tmp_path, ["nlp"], **names)
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = inspect(first, load_or_create(keys_folder(tmp_path)))
    assert (found.accepted, found.scopes) == (True, ("nlp",))
    assert ensure_token(tmp_path, ["nlp"], **names).read_text() == first
    assert ensure_token(tmp_path, ["nlp", "mesh"], **names).read_text() != first
    path.write_text("garbage")
    assert ensure_token(tmp_path, ["nlp"], **names).read_text() != "garbage"
    other = ensure_token(tmp_path, ["nlp"], issuer="acme", audience="sensorium").read_text()
    assert inspect(other, None, issuer="acme").problems == ()


def replica(state: str, service: str = "nlp", reason: str = "", **models: str) -> ReplicaInfo:
    return ReplicaInfo(service, "127.0.0.1:1", state, reason, "", models)


def model(name: str, ready_replicas: int, reason: str = "") -> ModelInfo:
    state = "ready" if ready_replicas else "unavailable"
    return ModelInfo("nlp", name, "1", state, reason, "", "", "", (), (), "", ready_replicas, 1)


def test_a_mesh_is_ready_when_every_service_is_settled() -> None:
    services = {"nlp": True}
    assert judge([], [], {}).missing == ""
    assert judge([], [], services).missing == "nlp: no replica is known yet"
    assert judge([replica("unreachable", reason="refused")], [], services).missing == "nlp: refused"
    assert judge([replica("starting", a="ready", b="loading")], [], services).missing == "nlp: loading b"
    # A replica that has not said anything of its models yet is not one that has none.
    assert judge([replica("ready")], [], services).missing == "nlp: ready"
    assert judge([replica("ready")], [], {"nlp": False}).missing == ""
    found = judge(
        [replica("ready", a="ready", b="unavailable"), replica("unreachable")],
        [model("a", 1), model("b", 0, "sha256 differs")],
        services,
    )
    assert (found.missing, found.failed, found.serving) == ("", ("nlp/b (sha256 differs)",), 1)
    failed = judge([replica("starting", b="unavailable")], [model("b", 0)], services)
    assert (failed.missing, failed.failed, failed.serving) == ("", ("nlp/b (unavailable)",), 0)
