"""This machine's key for signing artifacts, and the public half that its replicas trust.

Apart from the key of tokens: who may call and who answers for a model are two questions. Not here: the format of
signatures (`shared.inference.signature`).
"""

from pathlib import Path

from gateway.identity.key import PRIVATE_NAME, load_or_create
from shared.inference.signature import OWN_KEYS, SignatureSettings, Signer

_MADE_BY = "`sensorium models sign`"


def keys_folder(state: Path) -> Path:
    """Where the private key and the public set are, see `gateway.identity.key`."""
    return (state / OWN_KEYS).parent


def private_key_path(state: Path) -> Path:
    """Where the private key is."""
    return keys_folder(state) / PRIVATE_NAME


def own_signer(state: Path) -> Signer:
    """This machine's key, made on first use.

    Raises:
        KeyFileError: it is there and cannot be used.
    """
    key = load_or_create(keys_folder(state), made_by=_MADE_BY)
    assert key.private_key is not None, "it was loaded from a private key"
    return Signer(key.private_key, key.kid or key.thumbprint())


def own_trust(state: Path) -> SignatureSettings:
    """Settings that trust this machine's key alone."""
    return SignatureSettings(trusted=(state / OWN_KEYS,), required=True)
