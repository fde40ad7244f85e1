"""Tokens: ES256 JWTs that say who calls, for what, and until when. Pure but for the clock.

Claims: iss, aud, sub (who), scope (list), tier (which rate limit), iat, exp, jti (by which one token can be
refused). Envoy verifies them on every call; `inspect` is for people.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from joserfc import jws, jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey, KeySet
from joserfc.util import urlsafe_b64decode

ISSUER = "sensorium"
AUDIENCE = "sensorium"
# `mesh` opens MeshService, `admin` what changes the mesh; every service has a scope of its own name.
SCOPES = ("vision", "nlp", "speech", "mesh", "admin")
DEFAULT_TIER = "default"
ALGORITHM = "ES256"
# Longer than anybody means: a typing error, not a wish.
MAX_LIFETIME_S = 10 * 365 * 86_400.0


@dataclass(frozen=True)
class Inspection:
    """What a token says, and whether it would be accepted.

    problems: why not, each in words; empty if it would be. verified: the signature was checked and is right;
    False too where no keys were given to check with.
    """

    header: dict[str, object]
    claims: dict[str, object]
    verified: bool
    problems: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the gateway would let it in."""
        return self.verified and not self.problems

    @property
    def scopes(self) -> tuple[str, ...]:
        """What it opens, e.g. `("vision", "mesh")`."""
        scope = self.claims.get("scope")
        if isinstance(scope, str):
            return tuple(scope.split())
        return tuple(str(one) for one in scope) if isinstance(scope, list) else ()

    @property
    def expires_at(self) -> datetime | None:
        """When it ends, in UTC."""
        return _instant(self.claims.get("exp"))


def mint(
    key: ECKey,
    *,
    subject: str,
    scopes: Sequence[str],
    lifetime_s: float,
    tier: str = DEFAULT_TIER,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    now_s: float | None = None,
) -> str:
    """A signed token in compact form.

    subject: who it is for; also the unit of the rate limit. scopes: e.g. `("vision", "mesh")`. lifetime_s:
    seconds from now until it ends; a negative one makes an expired token. now_s: unix time, default the
    clock's. Raises ValueError for an empty subject or one with control characters, no scopes, a scope with
    blanks, or more than ten years.
    """
    if not subject.strip():
        raise ValueError("subject: expected a name, got none")
    if not subject.isprintable():
        # It travels in a header, where a control character costs the call.
        raise ValueError(f"subject: expected a name without control characters, got {subject!r}")
    if not scopes:
        raise ValueError(f"scopes: expected at least one, got none; this mesh knows {', '.join(SCOPES)}")
    for scope in scopes:
        if not scope or scope != "".join(scope.split()):
            raise ValueError(f"scopes: expected names without blanks, got {scope!r}")
    if not abs(lifetime_s) <= MAX_LIFETIME_S:
        raise ValueError(f"lifetime_s: expected at most ten years, got {lifetime_s:.0f} s")
    now = time.time() if now_s is None else now_s
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "scope": list(dict.fromkeys(scopes)),
        "tier": tier,
        "iat": int(now),
        "exp": int(now + lifetime_s),
        "jti": secrets.token_urlsafe(12),
    }
    header = {"alg": ALGORITHM, "kid": key.kid or key.thumbprint()}
    return jwt.encode(header, claims, key, algorithms=[ALGORITHM])


def inspect(
    token: str,
    keys: KeySet | ECKey | None,
    *,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    now_s: float | None = None,
) -> Inspection:
    """Reads a token without trusting it, and says what the gateway would find wrong with it.

    keys: public keys to check the signature with, or None to only read. Raises ValueError for what is no JWT.
    """
    header, claims = _read(token.strip())
    problems: list[str] = []
    verified = False
    if header.get("alg") != ALGORITHM:
        problems.append(f"alg: expected {ALGORITHM}, got {header.get('alg')!r}")
    elif keys is not None:
        try:
            jws.deserialize_compact(token.strip(), keys, algorithms=[ALGORITHM])
            verified = True
        except BadSignatureError:
            problems.append("signature: it was not made by a key of this mesh, or the token was altered")
        except (JoseError, ValueError) as error:
            problems.append(f"signature: no key of this mesh fits ({error})")
    now = time.time() if now_s is None else now_s
    if claims.get("iss") != issuer:
        problems.append(f"iss: expected {issuer!r}, got {claims.get('iss')!r}")
    meant_for = claims.get("aud")
    if audience not in (meant_for if isinstance(meant_for, list) else [meant_for]):
        problems.append(f"aud: expected {audience!r}, got {meant_for!r}")
    ends = _instant(claims.get("exp"))
    if ends is None:
        problems.append("exp: expected a time, got none: a token without an end is not accepted")
    elif ends.timestamp() <= now:
        problems.append(f"exp: it expired at {ends:%Y-%m-%d %H:%M:%S} UTC")
    begins = _instant(claims.get("nbf"))
    if begins is not None and begins.timestamp() > now:
        problems.append(f"nbf: it is not valid before {begins:%Y-%m-%d %H:%M:%S} UTC")
    return Inspection(header, claims, verified, tuple(problems))


def _read(token: str) -> tuple[dict[str, object], dict[str, object]]:
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError(f"token: expected three parts joined by dots, got {len(parts)}; is it a token?")
    try:
        header, claims = (json.loads(urlsafe_b64decode(part.encode())) for part in parts[:2])
    except ValueError as error:
        raise ValueError("token: expected base64url-encoded JSON, got something else; was it cut?") from error
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("token: expected JSON objects, got something else")
    return header, claims


def _instant(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None
