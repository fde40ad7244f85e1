"""An image's bill of materials, held to what is installed in the image's root."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.docker.sbom import BILL, PROJECT, canonical, find_installed


def hold_bill(root: Path, folder: str) -> dict[str, int]:
    """How many components the bill of materials of an image has, by kind of package.

    Raises:
        SystemExit: Python's are not those that are installed.
    """
    path = root / folder.lstrip("/") / BILL
    if not path.exists():
        return {}
    components = json.loads(path.read_text())["components"]
    environment = path.parent / ".venv"
    if environment.exists():
        installed = {(name, found.version) for name, found in find_installed(environment) if name != PROJECT}
        listed = {
            (canonical(one["name"]), one["version"])
            for one in components
            if not one.get("purl", "").startswith("pkg:deb/") and one["type"] == "library"
        }
        if listed != installed:
            raise SystemExit(f"{path}: listed or installed alone: {sorted(listed ^ installed)}")
    kinds = [one.get("purl", one["type"]).partition("/")[0].removeprefix("pkg:") for one in components]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}
