"""What an image of models holds: artifacts, who is trusted for them, and a bill of materials, under one digest.

Not here: the image's build (`deploy/docker`), and which models may go in (`license`).
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.failure import CommandError
from cli.pull.build import artifact_folder, pull, recipe_sha256
from cli.pull.catalog import Entry
from cli.pull.progress import Progress
from cli.registry.key import own_signer
from shared.inference.artifact import Artifact, ArtifactError, copy_artifact, read_artifact
from shared.inference.signature import OWN_KEYS

MODELS, TRUSTED, BILL = "models", "trusted.jwks.json", "sbom.cdx.json"
# As long as a tag of an image is easily read: 48 bits.
_DIGITS = 12


def digest_entries(entries: Sequence[Entry]) -> str:
    """One digest, 12 hex digits, of what an image of these models holds: names, versions, the archives that they are made
    of and the recipes that make them, or the artifacts that are shipped.

    Raises:
        CommandError: a recipe or a shipped artifact cannot be read.
    """
    content = json.dumps(
        [_identify(entry) for entry in sorted(entries, key=lambda entry: entry.public_name)],
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]


def _identify(entry: Entry) -> Mapping[str, object]:
    if entry.shipped:
        made_from: object = _read(entry.shipped_folder, entry).digest
    else:
        made_from = {
            "recipe": recipe_sha256(entry),
            "archives": sorted(source.sha256 for source in entry.sources),
        }
    return {"model": entry.public_name, "version": entry.version, "from": made_from}


def bake(entries: Sequence[Entry], state: Path, out: Path, progress: Progress) -> list[Artifact]:
    """Fill `out` with the entries' artifacts (`models/<service>/<name>/<version>`), the public key of who signed them
    (`models/trusted.jwks.json`) and a bill of materials (`sbom.cdx.json`). What is not in `state` is pulled into it first.

    Raises:
        CommandError: `out` is not empty, a pull failed, or a file cannot be written.
    """
    if out.exists() and any(out.iterdir()):
        raise CommandError(f"{out}: expected an empty folder or none: what lies in it would be in the image")
    for entry in entries:
        pull(entry, state, progress)
    sign = own_signer(state).sign
    artifacts = []
    try:
        for entry in entries:
            made = _read(artifact_folder(entry, state), entry)
            artifacts.append(copy_artifact(made, out / MODELS / entry.service, sign=sign))
        shutil.copyfile(state / OWN_KEYS, out / MODELS / TRUSTED)
        (out / BILL).write_text(json.dumps(list_materials(entries, artifacts), indent=1) + "\n")
    except ArtifactError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or out}: cannot be written: {error.strerror}") from error
    return artifacts


def _read(folder: Path, entry: Entry) -> Artifact:
    try:
        return read_artifact(folder)
    except ArtifactError as error:
        raise CommandError(f"{entry.public_name}: {error}") from error


def list_materials(entries: Sequence[Entry], artifacts: Sequence[Artifact]) -> dict[str, object]:
    """A bill of materials in CycloneDX 1.5: each model with its licence, its artifact's digest, and what it is made of."""
    digest = digest_entries(entries)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": "sensorium/models",
                "version": digest,
            }
        },
        "components": [
            {
                "type": "machine-learning-model",
                "bom-ref": entry.public_name,
                "group": entry.service,
                "name": entry.name,
                "version": artifact.version,
                "description": entry.text("description"),
                "hashes": [{"alg": "SHA-256", "content": artifact.digest.removeprefix("sha256:")}],
                "licenses": [{"license": {"id": artifact.license}}],
                "properties": [
                    {"name": "training data", "value": entry.text("training_data")},
                    *(
                        {
                            "name": "made of",
                            "value": f"{source.registry} {source.label} sha256:{source.sha256}",
                        }
                        for source in entry.sources
                    ),
                ],
            }
            for entry, artifact in zip(entries, artifacts, strict=True)
        ],
    }
