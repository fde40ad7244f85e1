"""Signing keys in a folder: the private one for who mints, the public set for who verifies.

`<folder>/signing.pem` is the private key (mode 0600), `<folder>/jwks.json` the public key set that Envoy
reads. Several gateways verify with the same public set; the private key stays with the command that mints.
Nothing here makes tokens.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from shared.errors import StartupError

PRIVATE_NAME = "signing.pem"
PUBLIC_NAME = "jwks.json"
# Key types with a public half. A symmetric key in the set would let anybody who reads it mint tokens.
PUBLIC_TYPES = ("EC", "RSA", "OKP")
# Curves that Envoy verifies, with the algorithm of each.
_ALGORITHMS = {
    "EC": {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"},
    "OKP": {"Ed25519": "EdDSA"},
}


# What makes keys of tokens, for messages.
_MADE_BY = "`sensorium token create`"


class KeyFileError(StartupError):
    """A key file is missing, unreadable or not what it should be; the text says which and what to do."""


def load_or_create(folder: Path, *, made_by: str = _MADE_BY) -> ECKey:
    """The ES256 signing key of `folder`, made there on first use together with its public set.

    made_by: the command that makes such keys, for messages. Two processes may call this at the same time: one makes the
    key, both get it. Raises KeyFileError.
    """
    private = folder / PRIVATE_NAME
    if not private.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = ECKey.generate_key("P-256", auto_kid=True)
        _publish(private, made.as_pem(private=True), mode=0o600, replace=False)
    key = load(folder, made_by=made_by)
    public = folder / PUBLIC_NAME
    if not public.exists():
        _publish_set(public, [_describe(key)])
    return key


def rotate(folder: Path, *, made_by: str = _MADE_BY) -> ECKey:
    """Make a new signing key in `folder`. The public halves of those before stay in the set: tokens they signed stay good.
    Of several that are made at the same time the last one signs, and all are in the set.

    Raises KeyFileError if there is no usable key yet, or no public set.
    """
    with _alone(folder):
        load(folder, made_by=made_by)
        before = json.loads(read_public_set(folder / PUBLIC_NAME))["keys"]
        made = ECKey.generate_key("P-256", auto_kid=True)
        # In this order: whoever copies the set between the two has a key more than is used, never one less.
        _publish_set(folder / PUBLIC_NAME, [_describe(made), *before])
        _publish(folder / PRIVATE_NAME, made.as_pem(private=True), mode=0o600, replace=True)
    return made


def retire(folder: Path, *, made_by: str = _MADE_BY) -> int:
    """Take every public key but the signing key's own out of the set of `folder`; how many went. Tokens that were signed by
    them are refused by every gateway that has the new set.

    Raises KeyFileError as `rotate`.
    """
    with _alone(folder):
        key = load(folder, made_by=made_by)
        before = json.loads(read_public_set(folder / PUBLIC_NAME))["keys"]
        _publish_set(folder / PUBLIC_NAME, [_describe(key)])
    return sum(entry.get("kid") != key.kid for entry in before)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One at a time changes the keys of `folder`: between reading the set and writing both files nobody else does."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        # What is missing says whoever reads the keys.
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def load(folder: Path, *, made_by: str = _MADE_BY) -> ECKey:
    """The signing key of `folder`. Raises KeyFileError if there is none or it cannot be read."""
    private = folder / PRIVATE_NAME
    try:
        content = private.read_bytes()
        key = ECKey.import_key(content)
    except FileNotFoundError:
        raise KeyFileError(f"{private}: no signing key there; {made_by} makes one on first use") from None
    except (OSError, ValueError, JoseError) as error:
        raise KeyFileError(
            f"{private}: expected a private P-256 key in PEM, got {error}; remove it to have a new one made"
        ) from error
    if not key.is_private or key.curve_name != "P-256":
        raise KeyFileError(f"{private}: expected a private P-256 key in PEM, got another kind")
    key.ensure_kid()
    return key


def read_public_set(path: Path) -> str:
    """The public key set at `path` as JSON, checked to be one that may be published. Raises KeyFileError."""
    try:
        text = path.read_text()
        document = json.loads(text)
        types = [key["kty"] for key in document["keys"]]
        if types:
            KeySet.import_key_set(document)
    except FileNotFoundError:
        raise KeyFileError(
            f"{path}: no public keys there; `sensorium token create` makes them on first use, "
            "or name a JWKS in auth.jwks"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, JoseError) as error:
        raise KeyFileError(f"{path}: expected a JSON Web Key Set, got {error!r}") from error
    if not types:
        raise KeyFileError(f"{path}: expected at least one key, got an empty set: no token could be accepted")
    for n, (kty, entry) in enumerate(zip(types, document["keys"], strict=True)):
        if kty not in PUBLIC_TYPES:
            raise KeyFileError(
                f"{path}: keys[{n}].kty: expected {', '.join(PUBLIC_TYPES)}, got {kty}: "
                "a shared secret cannot verify safely"
            )
        if "d" in entry:
            raise KeyFileError(f"{path}: keys[{n}] holds a private key: publish its public half only")
        curve = entry.get("crv", "")
        if kty in _ALGORITHMS and curve not in _ALGORITHMS[kty]:
            raise KeyFileError(
                f"{path}: keys[{n}].crv: expected {' or '.join(_ALGORITHMS[kty])}, got {curve or 'none'}"
            )
        fitting = _ALGORITHMS.get(kty, {}).get(curve)
        if fitting and entry.get("alg", fitting) != fitting:
            raise KeyFileError(f"{path}: keys[{n}].alg: expected {fitting} for {curve}, got {entry['alg']}")
    return text


def read_public_keys(path: Path) -> KeySet:
    """The public key set at `path`, for `token.inspect`. Raises KeyFileError."""
    return KeySet.import_key_set(json.loads(read_public_set(path)))


def _describe(key: ECKey) -> dict[str, object]:
    """The public half, as a set lists it."""
    return {**key.as_dict(private=False), "alg": "ES256", "use": "sig"}


def _publish_set(path: Path, keys: list[dict[str, object]]) -> None:
    _publish(path, json.dumps({"keys": keys}, indent=1).encode(), mode=0o644, replace=True)


def _publish(path: Path, content: bytes, *, mode: int, replace: bool) -> None:
    """Writes `path` at once and whole. With `replace` false an existing file wins."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if replace:
            temporary.replace(path)
            return
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
