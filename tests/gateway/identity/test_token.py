"""Tokens say what they are made to say, and inspecting one names every reason to refuse it."""

from __future__ import annotations

import base64
import json

import pytest
from joserfc.jwk import ECKey

from gateway.identity.token import inspect, mint

KEY = ECKey.generate_key("P-256", auto_kid=True)
NOW_S = 1_700_000_000.0


def test_a_minted_token_is_accepted_and_says_who() -> None:
    token = mint(KEY, subject="ana", scopes=("vision", "mesh", "vision"), lifetime_s=60, now_s=NOW_S)
    found = inspect(token, KEY, now_s=NOW_S + 59)
    assert found.accepted
    assert found.scopes == ("vision", "mesh")
    assert found.claims["sub"] == "ana"
    assert found.expires_at is not None
    assert found.expires_at.timestamp() == NOW_S + 60


def test_two_tokens_have_two_ids() -> None:
    one, two = (inspect(mint(KEY, subject="a", scopes=["vision"], lifetime_s=60), KEY) for _ in range(2))
    assert one.claims["jti"] != two.claims["jti"]


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"lifetime_s": -1}, "exp"),
        ({"issuer": "elsewhere"}, "iss"),
        ({"audience": "elsewhere"}, "aud"),
    ],
)
def test_each_reason_to_refuse_is_named(made: dict[str, object], problem: str) -> None:
    fields = {"subject": "ana", "scopes": ["vision"], "lifetime_s": 60.0, "now_s": NOW_S} | made
    found = inspect(mint(KEY, **fields), KEY, now_s=NOW_S)  # type: ignore[arg-type]
    assert not found.accepted
    assert [text.split(":")[0] for text in found.problems] == [problem]


def test_another_key_is_found_out() -> None:
    token = mint(ECKey.generate_key("P-256"), subject="ana", scopes=["vision"], lifetime_s=60)
    found = inspect(token, KEY)
    assert not found.verified
    assert "signature" in found.problems[0]


def test_a_token_without_a_signature_is_found_out() -> None:
    _, claims, _ = mint(KEY, subject="ana", scopes=["vision"], lifetime_s=60).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    found = inspect(f"{header}.{claims}.", KEY)
    assert not found.accepted
    assert "alg" in found.problems[0]


def test_reading_without_keys_verifies_nothing() -> None:
    assert not inspect(mint(KEY, subject="ana", scopes=["vision"], lifetime_s=60), None).accepted


@pytest.mark.parametrize("token", ["", "abc", "a.b", "a.b.c.d", "!.!.!", "W10.W10."])
def test_what_is_no_token_is_said_to_be_none(token: str) -> None:
    with pytest.raises(ValueError, match="token:"):
        inspect(token, KEY)


@pytest.mark.parametrize(
    "made",
    [
        {"subject": " "},
        {"subject": "ana\x01"},
        {"scopes": []},
        {"scopes": ["vision nlp"]},
        {"lifetime_s": 1e12},
        {"lifetime_s": float("nan")},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(made: dict[str, object]) -> None:
    fields = {"subject": "ana", "scopes": ["vision"], "lifetime_s": 60.0} | made
    with pytest.raises(ValueError, match=next(iter(made))):
        mint(KEY, **fields)  # type: ignore[arg-type]
