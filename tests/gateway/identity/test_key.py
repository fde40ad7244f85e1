"""Keys are made once, kept private, and published without secrets."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey

from gateway.identity.key import (
    KeyFileError,
    load,
    load_or_create,
    read_public_keys,
    read_public_set,
    retire,
    rotate,
)
from gateway.identity.token import inspect, mint


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "keys")
    second = load_or_create(tmp_path / "keys")
    assert first.kid == second.kid
    assert stat.S_IMODE((tmp_path / "keys" / "signing.pem").stat().st_mode) == 0o600
    assert '"d"' not in (tmp_path / "keys" / "jwks.json").read_text()


def test_processes_that_start_together_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        kids = {key.kid for key in pool.map(lambda _: load_or_create(tmp_path), range(8))}
    assert len(kids) == 1
    assert read_public_keys(tmp_path / "jwks.json").keys[0].kid in kids


def test_a_rotated_key_signs_and_those_before_stay_good_until_they_retire(tmp_path: Path) -> None:
    claims = {"scopes": ["mesh"], "lifetime_s": 60.0}
    load_or_create(tmp_path)
    tokens = [mint(load(tmp_path), subject="0", **claims)]  # type: ignore[arg-type]
    for number in (1, 2):
        made = rotate(tmp_path)
        assert load(tmp_path).kid == made.kid
        tokens.append(mint(load(tmp_path), subject=str(number), **claims))  # type: ignore[arg-type]
    assert '"d"' not in (tmp_path / "jwks.json").read_text()
    assert stat.S_IMODE((tmp_path / "signing.pem").stat().st_mode) == 0o600
    keys = read_public_keys(tmp_path / "jwks.json")
    assert [inspect(token, keys).accepted for token in tokens] == [True, True, True]
    assert retire(tmp_path) == 2
    keys = read_public_keys(tmp_path / "jwks.json")
    assert [inspect(token, keys).accepted for token in tokens] == [False, False, True]
    assert retire(tmp_path) == 0


def test_keys_that_are_made_at_the_same_time_are_all_in_the_set(tmp_path: Path) -> None:
    first = load_or_create(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = {key.kid for key in pool.map(lambda _: rotate(tmp_path), range(24))}
    kids = {key.kid for key in read_public_keys(tmp_path / "jwks.json").keys}
    assert kids == {first.kid, *made}
    assert load(tmp_path).kid in made


def test_what_signs_is_in_the_set_whoever_retires_meanwhile(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: rotate(tmp_path) if n % 2 else retire(tmp_path), range(32)))
    assert load(tmp_path).kid in {key.kid for key in read_public_keys(tmp_path / "jwks.json").keys}


def test_there_is_nothing_to_rotate_before_there_is_a_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="sensorium token create"):
        rotate(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="sensorium token create"):
        load(tmp_path)
    with pytest.raises(KeyFileError, match="sensorium token create"):
        read_public_set(tmp_path / "jwks.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "JSON Web Key Set"),
        ('{"keys": []}', "at least one key"),
        (json.dumps({"keys": [OctKey.generate_key(256).as_dict()]}), "shared secret"),
        (json.dumps({"keys": [ECKey.generate_key("P-256").as_dict(private=True)]}), "private key"),
        (
            json.dumps({"keys": [{**ECKey.generate_key("P-256").as_dict(private=False), "alg": "ES512"}]}),
            r"keys\[0\].alg: expected ES256 for P-256, got ES512",
        ),
        (
            json.dumps({"keys": [ECKey.generate_key("secp256k1").as_dict(private=False)]}),
            r"keys\[0\].crv: expected P-256 or P-384 or P-521, got secp256k1",
        ),
        (
            json.dumps({"keys": [OKPKey.generate_key("X25519").as_dict(private=False)]}),
            r"keys\[0\].crv: expected Ed25519, got X25519",
        ),
    ],
)
def test_a_set_that_must_not_be_used_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(content)
    with pytest.raises(KeyFileError, match=says):
        read_public_set(path)


def test_a_damaged_private_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "signing.pem").write_text("-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeyFileError, match="P-256"):
        load(tmp_path)
