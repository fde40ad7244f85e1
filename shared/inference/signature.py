"""Signatures of artifacts: who answers for a version, and whether it is still what he signed.

`signature.jws` in the artifact's folder is a detached JWS (RFC 7515, appendix F; ES256) over the bytes of artifact.json,
which holds the digest of every other file. Trusted keys are JWK sets (RFC 7517). Here: the format, signing and checking.
Not here: where private keys are (the command line's), the digests (`artifact.py`).

The format is read by hand: a JOSE library would add 0.1 s of CPU to the start of every replica, the primitives alone 0.01.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from shared.files import open_regular
from shared.inference.artifact import Artifact
from shared.inference.manifest import MANIFEST, SIGNATURE, ArtifactError
from shared.settings import Settings, state_dir

_ALGORITHM = "ES256"
# Said in the signature, so that none of these keys' signatures on something else can be taken for one of an artifact.
_TYPE = "sensorium-artifact"
# Of each of the two numbers of an ES256 signature.
_NUMBER_BYTES = 32
# A signature file is 300 bytes; what is much longer is none.
_MAX_BYTES = 4096
# Where this machine's public key is in the state folder; beside it, for the command line alone, the private one.
OWN_KEYS = Path("keys", "artifacts", "jwks.json")

PublicKeys = Mapping[str, ec.EllipticCurvePublicKey]  # by key id


class SignatureError(ArtifactError):
    """An artifact is not signed, or not by a trusted key, or it was changed since; the text says which."""


class SignatureSettings(Settings):
    """Whose signatures on artifacts are trusted; frozen."""

    trusted: tuple[Path, ...] = ()
    """Files of public keys (JWK sets); none = this machine's own, `<state>/keys/artifacts/jwks.json`."""
    required: bool = True
    """Whether an artifact without a signature is refused. One that has a signature must have a right one in any case."""

    def find_trusted(self) -> tuple[Path, ...]:
        """The files as set, else this machine's."""
        return self.trusted or (state_dir() / OWN_KEYS,)


@dataclass(frozen=True)
class Signer:
    """A private key (P-256) and the id by which its public half is known."""

    key: ec.EllipticCurvePrivateKey
    key_id: str

    def sign(self, manifest: bytes) -> bytes:
        """The content of `signature.jws` for the bytes of an artifact.json."""
        header = {"alg": _ALGORITHM, "kid": self.key_id, "typ": _TYPE}
        encoded = _encode(json.dumps(header, separators=(",", ":")).encode())
        made = self.key.sign(encoded + b"." + _encode(manifest), ec.ECDSA(SHA256()))
        numbers = (number.to_bytes(_NUMBER_BYTES, "big") for number in decode_dss_signature(made))
        return encoded + b".." + _encode(b"".join(numbers))


def sign_artifact(artifact: Artifact, signer: Signer) -> None:
    """Put a signature into the folder of an artifact, in the place of the one that is there.

    Whoever signs answers for the files: check them first (`verify`).

    Raises:
        ArtifactError: it cannot be written.
    """
    path = artifact.folder / SIGNATURE
    # Beside the folder, in which nothing must lie that is not of the artifact.
    temporary = artifact.folder.parent / f".{artifact.version}.{SIGNATURE}.{secrets.token_hex(4)}"
    try:
        try:
            temporary.write_bytes(signer.sign(artifact.content))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror}") from error


def check_signature(artifact: Artifact, settings: SignatureSettings) -> str:
    """Check that a trusted key has signed artifact.json as it was read; the files' digests are left to `verify`.

    Gives the key's id, "" for an artifact without a signature where none is required.

    Raises:
        SignatureError: it must not be trusted.
    """
    try:
        with open_regular(artifact.folder / SIGNATURE) as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        if not settings.required:
            return ""
        raise SignatureError(
            f"it is not signed: `sensorium models pull` signs what it makes, `sensorium models sign "
            f"{artifact.folder}` what you answer for"
        ) from None
    except OSError as error:
        raise SignatureError(f"{SIGNATURE} cannot be read: {error.strerror}") from error
    files = settings.find_trusted()
    if not settings.required and not settings.trusted and not files[0].exists():
        return ""  # there is nothing to judge it by, and it might as well not be there
    return verify_signature(content, artifact.content, read_keys(files), where=", ".join(map(str, files)))


def verify_signature(
    signature: bytes, manifest: bytes, keys: PublicKeys, *, where: str = "those given"
) -> str:
    """Check a signature against the bytes of an artifact.json; gives the id of the key that made it.

    Only the one form that `Signer.sign` writes is a signature: no other byte may stand in its file.

    Raises:
        SignatureError: it is none, or not one of these keys'; `where` says where they are from.
    """
    encoded, dots, rest = signature.partition(b"..")
    header, numbers = _decode(encoded), _decode(rest)
    said = _parse_header(header)
    if not dots or said is None or numbers is None or len(numbers) != 2 * _NUMBER_BYTES:
        raise SignatureError(
            f"{SIGNATURE}: expected a detached ES256 signature, got something else; sign it again"
        )
    key_id = str(said.get("kid"))
    if said != {"alg": _ALGORITHM, "kid": key_id, "typ": _TYPE}:
        raise SignatureError(
            f"{SIGNATURE}: expected a header of alg {_ALGORITHM}, typ {_TYPE} and kid, got {said!r:.200}"
        )
    key = keys.get(key_id)
    if key is None:
        known = ", ".join(sorted(keys))
        raise SignatureError(
            f"{SIGNATURE}: it was signed by key {key_id!r:.80}, which is not trusted; trusted are {known} ({where})"
        )
    first, second = (int.from_bytes(numbers[at : at + _NUMBER_BYTES], "big") for at in (0, _NUMBER_BYTES))
    try:
        key.verify(
            encode_dss_signature(first, second), encoded + b"." + _encode(manifest), ec.ECDSA(SHA256())
        )
    except InvalidSignature:
        raise SignatureError(
            f"{SIGNATURE}: it does not fit {MANIFEST}: one of them was changed since key {key_id} signed"
        ) from None
    return key_id


def read_keys(files: Sequence[Path]) -> PublicKeys:
    """The public keys of some JWK sets, by their ids; keys of other kinds are passed over.

    Raises:
        SignatureError: a file cannot be read, or there is no P-256 key in any.
    """
    keys: dict[str, ec.EllipticCurvePublicKey] = {}
    for path in files:
        try:
            entries = json.loads(path.read_bytes())["keys"]
            for entry in entries:
                if entry["kty"] == "EC" and entry["crv"] == "P-256":
                    keys[str(entry.get("kid") or find_key_id(entry))] = _read_key(entry)
        except FileNotFoundError:
            raise SignatureError(
                f"no key to check signatures with: {path} is not there; `sensorium models pull` and `sensorium models sign` "
                "make this machine's own"
            ) from None
        except OSError as error:
            raise SignatureError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SignatureError(f"{path}: expected a JSON Web Key Set, got {error!r:.200}") from error
    if not keys:
        raise SignatureError(f"{', '.join(map(str, files))}: expected at least one P-256 key, got none")
    return keys


def find_key_id(entry: Mapping[str, Any]) -> str:
    """The thumbprint of a P-256 key (RFC 7638), by which it is known where it bears no other id."""
    members = {name: entry[name] for name in ("crv", "kty", "x", "y")}
    return _encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()).decode()


def _read_key(entry: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    x, y = (_decode(str(entry[name]).encode()) for name in ("x", "y"))
    if x is None or y is None:
        raise ValueError("x and y must be base64url")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    return numbers.public_key()


def _parse_header(header: bytes | None) -> dict[str, Any] | None:
    try:
        said = json.loads(header or b"")
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes | None:
    """What is encoded, None where it is not encoded in the one way that `_encode` does it."""
    try:
        content = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    # Characters that mean nothing, and bits of the last one: what is not written so was changed.
    return content if _encode(content) == text else None
