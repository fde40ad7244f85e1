"""`mesh.yaml`: the one that is shipped is right, and every mistake is named with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, is_address, read_mesh
from gateway.contract import read_contract

ROOT = Path(__file__).parents[2]
TOY = "services:\n  - name: toy\n    grpc: [toy.v1.ToyService]\n"


def complaint(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mesh.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_contract(read_mesh(path))
    said = str(caught.value)
    assert "\n" not in said
    return said.removeprefix(f"{path}:").lstrip()


def test_the_shipped_file_is_right() -> None:
    file = read_mesh(ROOT / "deploy" / "mesh.yaml")
    assert [service.name for service in file.mesh.services] == ["vision", "nlp", "speech"]
    assert read_contract(file).method("/sensorium.vision.v1.VisionService/ReadText") is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1: expected a mapping"),
        ("- a\n", "1: expected a mapping"),
        ("listen: [\n", "2: not YAML"),
        ("a: &a 1\nb: *a\n", "2: not YAML: aliases are not taken"),
        ("a: 2001-99-99\n", "a value cannot be read"),
        ("[" * 5000, "a value cannot be read"),
        ("listen: 8080\n", "1: listen: expected a valid string, got 8080"),
        ("listen: nowhere\n", "1: listen: expected"),
        ("\nlisten: unix:/tmp/x\n", "2: listen: expected host:port, got a Unix socket"),
        ("metrics: unix:/tmp/x\n", "1: metrics: expected host:port, got a Unix socket"),
        ("metrics: localhost:9464\n", "1: metrics: expected an IP address of this machine, e.g. 127.0.0.1"),
        ("listen: 127.0.0.1:99999\n", "1: listen: expected a port up to 65535, got 99999"),
        (f"{TOY}    replicas: ['a:99999']\n", "4: services[0].replicas[0]: expected a port up to 65535"),
        (
            "auth:\n  issuer: a\n  isuer: b\n",
            "3: auth.isuer: unknown key; those that exist: audience, clock_skew_s",
        ),
        ("auth: {open: [everything]}\n", "1: auth.open[0]: expected 'health' or 'reflection'"),
        ("limits:\n  max_streams: many\n", "2: limits.max_streams: expected a valid integer"),
        (
            "limits:\n\n  max_streams: 0\n",
            "3: limits.max_streams: expected greater than or equal to 1, got 0",
        ),
        ("admin_port: 1\nlisten: a:1\nadmin_port: 2\n", "3: admin_port: stands here twice, first in line 1"),
        ("services:\n  - grpc: [a.B]\n", "2: services[0].name: required, and not there"),
        ("services:\n  - name: Vision\n    grpc: [a.B]\n", "2: services[0].name: expected"),
        (
            "services:\n  - name: admin\n    grpc: [a.B]\n",
            '2: services[0].name: "admin" is a name of the gateway\'s own',
        ),
        (f"{TOY}    replicas: [localhost]\n", "4: services[0].replicas[0]: expected"),
        (
            f"{TOY}    timeouts: {{default_s: 9, max_s: 3}}\n",
            "4: services[0].timeouts.default_s: expected at most max_s",
        ),
        ("timeouts: {default_s: 1000}\n", "1: timeouts.default_s: expected at most max_s"),
        (
            TOY,
            "3: services[0].grpc[0]: no descriptor set declares toy.v1.ToyService; those declared: grpc.health",
        ),
        (f"{TOY}    descriptors: none.binpb\n", "4: services[0].descriptors: "),
        (f"{TOY}    descriptors: mesh.yaml\n", "4: services[0].descriptors: "),
        (
            "services:\n  - {name: a, grpc: [a.B]}\n  - {name: a, grpc: [c.D]}\n",
            '3: services[1].name: "a" is already services[0]',
        ),
        (
            "services:\n  - {name: a, grpc: [a.B]}\n  - {name: b, grpc: [a.B]}\n",
            "3: services[1].grpc[0]: a.B is already",
        ),
        (
            "services:\n  - {name: a, grpc: [inference.GRPCInferenceService]}\n",
            "2: services[0].grpc[0]: inference.GRPCInferenceService is answered for every service already",
        ),
        (
            "rate_limits: {tiers: {default: {per_s: 1, burst: 1}}}\n",
            "1: rate_limits.tiers.default: set rate_limits.default",
        ),
        (
            "rate_limits: {tiers: {a: {per_s: 0, burst: 1}}}\n",
            "1: rate_limits.tiers.a.per_s: expected greater than 0",
        ),
    ],
)
def test_mistakes_are_named_with_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    assert complaint(tmp_path, text).startswith(says)


def test_several_mistakes_are_one_line(tmp_path: Path) -> None:
    said = complaint(tmp_path, "a: 1\nb: 2\nc: 3\nd: 4\n")
    assert said.count(" | ") == 2
    assert said.endswith("(and 1 more)")


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_mesh(tmp_path / "none.yaml")
    (tmp_path / "mesh.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"mesh\.yaml: "):
        read_mesh(tmp_path / "mesh.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "mesh.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_mesh(path)
    except ConfigError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are fine


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("127.0.0.1:1", True), ("a.b:65535", True), ("[::1]:80", True), ("unix:/a/b", True), ("unix:a", False),
        ("a", False), ("a:", False), (":1", False), ("::1:80", False), ("a:b", False), ("", False), ("a:1\n", False),
    ],
)  # fmt: skip
def test_addresses(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one
