"""Signatures of artifacts: only what a trusted key has signed, unchanged to the byte, is loaded."""

from __future__ import annotations

import base64
import hmac
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from shared.inference.artifact import (
    Artifact,
    ArtifactError,
    copy_artifact,
    read_artifact,
    verify,
    write_artifact,
)
from shared.inference.signature import (
    SignatureError,
    SignatureSettings,
    Signer,
    check_signature,
    find_key_id,
    read_keys,
    sign_artifact,
    verify_signature,
)
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.shared.inference.repository.opened import READY, UNAVAILABLE, get_reason, get_states, loaded
from tests.support.artifact_copy import copy_version
from tests.support.waiting import within

MANIFEST = b'{"name": "line"}'


def make_signer() -> tuple[Signer, ECKey]:
    key = ECKey.generate_key("P-256", auto_kid=True)
    assert isinstance(key.private_key, ec.EllipticCurvePrivateKey)
    return Signer(key.private_key, str(key.kid)), key


def publish(path: Path, *keys: ECKey | RSAKey) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}))
    return path


@pytest.fixture
def signer() -> Signer:
    return make_signer()[0]


@pytest.fixture
def trust(tmp_path: Path, signer: Signer) -> SignatureSettings:
    """Settings that trust the signer."""
    public = ECKey.import_key(signer.key.public_key())
    return SignatureSettings(trusted=(publish(tmp_path / "trusted.json", public),))


@pytest.fixture
def artifact(tmp_path: Path, signer: Signer) -> Artifact:
    """A small one with a card, signed."""
    entry = entry_of("line", card_text="# Line\n\nA card.\n")
    return write_artifact(tmp_path / "models", entry, draft_of(linear()), sign=signer.sign)


# The format.


def test_a_jose_library_reads_what_is_signed_here() -> None:
    signer, key = make_signer()
    header, _, numbers = signer.sign(MANIFEST).split(b".")
    payload = base64.urlsafe_b64encode(MANIFEST).rstrip(b"=")
    found = jws.deserialize_compact(b".".join([header, payload, numbers]), key, algorithms=["ES256"])
    assert found.payload == MANIFEST
    assert found.headers() == {"alg": "ES256", "kid": key.kid, "typ": "sensorium-artifact"}


def test_what_a_jose_library_signs_is_read_here() -> None:
    signer, key = make_signer()
    header = {"alg": "ES256", "kid": str(key.kid), "typ": "sensorium-artifact"}
    whole = jws.serialize_compact(header, MANIFEST, key, algorithms=["ES256"])
    protected, _, numbers = whole.split(".")
    keys = {str(key.kid): signer.key.public_key()}
    assert verify_signature(f"{protected}..{numbers}".encode(), MANIFEST, keys) == key.kid


def test_key_ids_are_thumbprints_of_rfc_7638() -> None:
    key = ECKey.generate_key("P-256")
    assert find_key_id(key.as_dict(private=False)) == key.thumbprint()


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"alg": "ES256", "typ": "JWT"}, "expected a header of alg ES256, typ sensorium-artifact"),
        ({"alg": "ES256"}, "expected a header"),
        ({"alg": "ES256", "typ": "sensorium-artifact", "crit": ["exp"], "exp": 1}, "expected a header"),
    ],
)
def test_a_signature_on_something_else_is_none(header: dict[str, object], says: str) -> None:
    """A token's, for one: the same key would have made it over the same bytes."""
    signer, key = make_signer()
    encoded = base64.urlsafe_b64encode(json.dumps({**header, "kid": key.kid}).encode()).rstrip(b"=")
    payload = base64.urlsafe_b64encode(MANIFEST).rstrip(b"=")
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    made = signer.key.sign(encoded + b"." + payload, ec.ECDSA(SHA256()))
    numbers = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(made))
    content = encoded + b".." + base64.urlsafe_b64encode(numbers).rstrip(b"=")
    with pytest.raises(SignatureError, match=says):
        verify_signature(content, MANIFEST, {str(key.kid): signer.key.public_key()})


def test_no_algorithm_is_no_way_in() -> None:
    """`alg: none`, and the public key taken for a shared secret."""
    signer, key = make_signer()
    keys = {str(key.kid): signer.key.public_key()}
    none = base64.urlsafe_b64encode(
        json.dumps({"alg": "none", "kid": key.kid, "typ": "sensorium-artifact"}).encode()
    ).rstrip(b"=")
    for content in (none + b"..", b"", b"..", b"a..b", signer.sign(MANIFEST) + b"\n", b"x" * 5000):
        with pytest.raises(SignatureError):
            verify_signature(content, MANIFEST, keys)
    header = json.dumps({"alg": "HS256", "kid": key.kid, "typ": "sensorium-artifact"}).encode()
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, MANIFEST))
    mac = base64.urlsafe_b64encode(hmac.digest(key.as_pem(private=False), signed, "sha256")).rstrip(b"=")
    with pytest.raises(SignatureError, match="expected a"):
        verify_signature(signed.split(b".")[0] + b".." + mac, MANIFEST, keys)


# Trust.


def test_another_key_is_named_and_so_are_the_trusted(
    artifact: Artifact, trust: SignatureSettings, signer: Signer
) -> None:
    assert check_signature(artifact, trust) == signer.key_id
    stranger, _ = make_signer()
    sign_artifact(artifact, stranger)
    with pytest.raises(SignatureError, match="which is not trusted") as refused:
        check_signature(artifact, trust)
    assert stranger.key_id in refused.value.reason
    assert signer.key_id in refused.value.reason


def test_another_key_under_a_trusted_id_is_refused(
    artifact: Artifact, trust: SignatureSettings, signer: Signer
) -> None:
    stranger, _ = make_signer()
    sign_artifact(artifact, Signer(stranger.key, signer.key_id))
    with pytest.raises(SignatureError, match=r"does not fit artifact\.json"):
        check_signature(artifact, trust)


def test_none_at_all(artifact: Artifact, trust: SignatureSettings) -> None:
    (artifact.folder / "signature.jws").unlink()
    with pytest.raises(SignatureError, match="it is not signed: `sensorium models pull`"):
        check_signature(artifact, trust)
    assert check_signature(artifact, trust.model_copy(update={"required": False})) == ""


def test_of_several_keys_each_may_have_signed(tmp_path: Path, artifact: Artifact, signer: Signer) -> None:
    other, key = make_signer()
    files = (
        publish(tmp_path / "a.json", ECKey.import_key(signer.key.public_key())),
        publish(tmp_path / "b.json", RSAKey.generate_key(2048), key),
    )
    settings = SignatureSettings(trusted=files)
    assert check_signature(artifact, settings) == signer.key_id
    sign_artifact(artifact, other)
    assert check_signature(artifact, settings) == other.key_id


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no key to check signatures with: .* is not there"),
        ("", "expected a JSON Web Key Set"),
        ("[]", "expected a JSON Web Key Set"),
        ('{"keys": [7]}', "expected a JSON Web Key Set"),
        ('{"keys": []}', "expected at least one P-256 key, got none"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}', "expected a JSON Web Key Set"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "?", "y": "AA"}]}', "expected a JSON Web Key Set"),
    ],
)
def test_keys_that_are_none(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SignatureError, match=says):
        read_keys([path])


def test_a_copy_is_signed_anew_as_another_version(
    tmp_path: Path, artifact: Artifact, trust: SignatureSettings, signer: Signer
) -> None:
    made = copy_artifact(artifact, tmp_path / "other", version="2", sign=signer.sign)
    assert (made.version, made.manifest.files) == ("2", artifact.manifest.files)
    verify(made)
    assert check_signature(made, trust) == signer.key_id
    # The signature of one version is none of another.
    shutil.copy(artifact.folder / "signature.jws", made.folder)
    with pytest.raises(SignatureError, match="does not fit"):
        check_signature(made, trust)


# Every byte.


def flips(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The content with one byte another: every byte once, and `count` more of any value at random places."""
    rng = random.Random(seed)
    places = [(at, content[at] ^ (1 << rng.randrange(8))) for at in range(len(content))]
    for _ in range(count):
        at = rng.randrange(len(content))
        places.append((at, (content[at] + rng.randrange(1, 256)) % 256))
    for at, value in places:
        changed = bytearray(content)
        changed[at] = value
        yield bytes(changed)


def check(folder: Path, trust: SignatureSettings) -> None:
    """All that is checked of an artifact's bytes before it is opened."""
    found = read_artifact(folder)
    check_signature(found, trust)
    verify(found)


def test_no_byte_of_any_file_may_change(artifact: Artifact, trust: SignatureSettings) -> None:
    check(artifact.folder, trust)
    files = sorted(artifact.folder.iterdir())
    assert [path.name for path in files] == [
        "artifact.json",
        "card.md",
        "golden.npz",
        "labels.txt",
        "model.onnx",
        "signature.jws",
    ]
    tried = 0
    for number, path in enumerate(files):
        content = path.read_bytes()
        for changed in flips(content, 300, number):
            path.write_bytes(changed)
            with pytest.raises(ArtifactError):
                check(artifact.folder, trust)
            tried += 1
        for cut in (content[:-1], content + b"\n", b""):
            path.write_bytes(cut)
            with pytest.raises(ArtifactError):
                check(artifact.folder, trust)
        path.unlink()
        with pytest.raises(ArtifactError):
            check(artifact.folder, trust)
        path.write_bytes(content)
    check(artifact.folder, trust)
    assert tried > 4000
    (artifact.folder / "weights.bin").write_bytes(b"more")
    with pytest.raises(ArtifactError, match=r"weights\.bin is not among the files"):
        check(artifact.folder, trust)


def test_files_of_two_signed_artifacts_do_not_mix(
    tmp_path: Path, artifact: Artifact, trust: SignatureSettings, signer: Signer
) -> None:
    entry = entry_of("line", description="Another.")
    other = write_artifact(tmp_path / "other", entry, draft_of(linear(4)), sign=signer.sign)
    for name in ("artifact.json", "signature.jws"):
        content = (artifact.folder / name).read_bytes()
        shutil.copy(other.folder / name, artifact.folder)
        with pytest.raises(ArtifactError):
            check(artifact.folder, trust)
        (artifact.folder / name).write_bytes(content)


# A repository.


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return change


async def test_the_version_before_serves_on(
    tmp_path: Path, artifact: Artifact, trust: SignatureSettings, signer: Signer
) -> None:
    models = tmp_path / "models"
    async with loaded(models, signature=trust, watch_s=0) as repository:
        assert get_states(repository) == {("line", "1"): READY}
        stranger, _ = make_signer()
        for number, (spoil, says) in enumerate(
            [
                (lambda folder: None, "it is not signed"),
                (lambda folder: _sign(folder, stranger), "is not trusted"),
                (lambda folder: (_sign(folder, signer), flip("model.onnx")(folder)), "sha256"),
                (lambda folder: (_sign(folder, signer), flip("card.md")(folder)), "sha256"),
                (lambda folder: (_sign(folder, signer), _blank(folder)), "does not fit artifact.json"),
                (lambda folder: (_sign(folder, signer), flip("signature.jws")(folder)), "signature.jws"),
            ],
            2,
        ):
            copy_version(artifact.folder, models, str(number), spoil)
            with pytest.raises(
                Exception, match=f"version {number} of model test/line was refused, version 1"
            ):
                await within(repository.load_model("line"))
            assert get_states(repository)["line", str(number)] == UNAVAILABLE
            assert says in get_reason(repository, "line", str(number))
            assert repository.model("line", "").artifact.version == "1"
        outcomes = {
            (sample.labels["version"], sample.labels["outcome"])
            for metric in repository.make_collector().collect()
            for sample in metric.samples
            if metric.name == "sensorium_inference_loads"
        }
        assert {("2", "signature"), ("3", "signature"), ("4", "artifact"), ("6", "signature")} <= outcomes
        copy_version(artifact.folder, models, "9", lambda folder: _sign(folder, signer))
        await within(repository.load_model("line"))
        assert repository.model("line", "").artifact.version == "9"


def _sign(folder: Path, signer: Signer) -> None:
    (folder / "signature.jws").write_bytes(signer.sign((folder / "artifact.json").read_bytes()))


def _blank(folder: Path) -> None:
    """Another byte that means the same to whoever reads JSON."""
    path = folder / "artifact.json"
    path.write_bytes(path.read_bytes().replace(b" ", b"\n", 1))
