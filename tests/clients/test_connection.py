"""Where the client looks for the mesh and its token."""

from __future__ import annotations

from pathlib import Path

import pytest
from sensorium.connection import connection


@pytest.mark.parametrize(
    ("address", "target", "secure"),
    [
        ("host:1", "host:1", False),
        ("http://host", "host:80", False),
        ("https://host", "host:443", True),
        ("https://host:9/", "host:9", True),
        ("[::1]:9", "[::1]:9", False),
        ("unix:/run/mesh", "unix:/run/mesh", False),
    ],
)
def test_addresses(address: str, target: str, secure: bool) -> None:
    made = connection(address, environ={})
    assert (made.target, made.secure) == (target, secure)


@pytest.mark.parametrize(
    "address", ["host", "ftp://host:1", "host:port", "host:99999", "http://host:1/path", ":1"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="address: "):
        connection(address, environ={})


def test_secure_may_be_said_but_not_contradicted() -> None:
    assert connection("host:1", secure=True, environ={}).secure
    with pytest.raises(ValueError, match="contradict"):
        connection("http://host:1", secure=True, environ={})


def test_the_environment_says_where(tmp_path: Path) -> None:
    assert connection(environ={"HOME": "/"}).target == "127.0.0.1:8080"
    assert connection(environ={"SENSORIUM_ADDRESS": "mesh:9"}).target == "mesh:9"
    assert connection("given:1", environ={"SENSORIUM_ADDRESS": "mesh:9"}).target == "given:1"


def test_the_token_that_is_nearest_wins(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "file"
    state.mkdir()
    (state / "token").write_text("of the state\n")
    file.write_text("of the file\n")
    environ = {"SENSORIUM_STATE_DIR": str(state)}
    assert connection(environ=environ).token.read() == "of the state"
    environ["SENSORIUM_TOKEN_FILE"] = str(file)
    assert connection(environ=environ).token.read() == "of the file"
    environ["SENSORIUM_TOKEN"] = " of the variable "
    assert connection(environ=environ).token.read() == "of the variable"
    assert connection(token="given", environ=environ).token.read() == "given"
    assert connection(token="", environ=environ).metadata() == ()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"one\ntwo", "\u00fc".encode()])
def test_a_file_that_holds_no_token_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    made = connection(environ={"SENSORIUM_STATE_DIR": str(tmp_path)})
    with pytest.raises(ValueError, match="token: expected a token"):
        made.token.read()


def test_the_local_token_stays_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("local")
    environ = {"SENSORIUM_STATE_DIR": str(tmp_path)}
    for here in ("127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/socket"):
        assert connection(here, environ=environ).token.read() == "local"
    for there in ("mesh.example:1", "127.example:1", "localhost.example:1", "10.0.0.1:1"):
        assert connection(there, environ=environ).token.read() == ""


def test_no_proxy_of_the_environment_stands_between_this_machine_and_itself() -> None:
    direct = ("grpc.enable_http_proxy", 0)
    for local in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080", "unix:/run/mesh.sock"):
        assert direct in connection(local).options(retries=True)
    assert direct not in connection("mesh.example.com:443").options(retries=True)
