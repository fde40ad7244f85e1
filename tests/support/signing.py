"""Artifacts of tests: signed as `sensorium models sign` does it, or served without a signature."""

from __future__ import annotations

from pathlib import Path

from cli.registry.key import own_signer
from shared.inference.artifact import read_artifact
from shared.inference.signature import SignatureSettings, sign_artifact

UNSIGNED = SignatureSettings(required=False)
# The same for processes.
UNSIGNED_ENVIRON = {
    f"SENSORIUM_{service}_INFERENCE__SIGNATURE__REQUIRED": "false" for service in ("VISION", "NLP", "SPEECH")
}


def sign_models(state: Path) -> None:
    """Sign every artifact of a state folder with the folder's own key."""
    signer = own_signer(state)
    for manifest in (state / "models").glob("*/*/[!.]*/artifact.json"):
        sign_artifact(read_artifact(manifest.parent), signer)
