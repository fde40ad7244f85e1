"""The development token: made for the mesh of this machine, so that its user has nothing to set up."""

import time
from collections.abc import Sequence
from pathlib import Path

from gateway.identity.key import PUBLIC_NAME, load_or_create, read_public_keys
from gateway.identity.token import inspect, mint
from shared.errors import StartupError
from shared.files import write_atomically

_LIFETIME_S = 30 * 86_400.0
# Renewed while this is left, so that nobody's script breaks in the middle of a week.
_RENEW_S = 7 * 86_400.0
SUBJECT = "developer"


def token_path(state: Path) -> Path:
    """Where it is."""
    return state / "token"


def keys_folder(state: Path) -> Path:
    """Where the signing key and the public set are."""
    return state / "keys"


def ensure_token(state: Path, scopes: Sequence[str], *, issuer: str, audience: str) -> Path:
    """Makes sure that a token with `scopes` is there that is good for another week; returns its path.

    Raises:
        StartupError: the signing key cannot be read or made.
    """
    path = token_path(state)
    if not _is_good(path, state, scopes, issuer, audience):
        key = load_or_create(keys_folder(state))
        text = mint(
            key, subject=SUBJECT, scopes=scopes, lifetime_s=_LIFETIME_S, issuer=issuer, audience=audience
        )
        write_atomically(path, f"{text}\n", mode=0o600)
    return path


def _is_good(path: Path, state: Path, scopes: Sequence[str], issuer: str, audience: str) -> bool:
    try:
        keys = read_public_keys(keys_folder(state) / PUBLIC_NAME)
        found = inspect(path.read_text(encoding="utf-8"), keys, issuer=issuer, audience=audience)
    except (OSError, ValueError, StartupError):
        return False
    ends = found.expires_at
    good_for_s = ends.timestamp() - time.time() if ends else 0.0
    return found.accepted and good_for_s > _RENEW_S and set(scopes) <= set(found.scopes)
