"""Completes an image's bill of materials (CycloneDX): what uv lists out of the lock is held to what is installed.

    python3 deploy/docker/sbom.py sensorium/gateway 0.1.0

Runs while the image is built, where the image's own Python is the only one: standard library alone. Components that the lock
has for other platforms go; what was installed beside it (PyTorch) and Debian's packages come in.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

BILL = Path("sbom.cdx.json")
# The project itself is what the bill is about, and no package of it.
PROJECT = "sensorium-mesh"
_SEPARATORS = re.compile(r"[-_.]+")


def complete(
    bill: dict[str, Any],
    image: str,
    version: str,
    installed: dict[str, Distribution],
    debian: list[dict[str, Any]],
) -> dict[str, Any]:
    """The bill of an image that holds these Python distributions, by canonical name, and these components of Debian.

    Raises:
        SystemExit: a package is installed in another version than the one that the lock has.
    """
    components = []
    locked: dict[str, list[str]] = {}
    for component in bill["components"]:
        name, of_lock = canonical(component["name"]), component["version"]
        locked.setdefault(name, []).append(of_lock)
        # The lock may have several of a name, for other Pythons and platforms.
        if name in installed and installed[name].version == of_lock:
            components.append(component)
    listed = {canonical(component["name"]) for component in components}
    for name in sorted(installed.keys() & locked.keys() - listed):
        sys.exit(f"{name}: the lock has {', '.join(locked[name])}, installed is {installed[name].version}")
    for name in sorted(installed.keys() - listed - {PROJECT}):
        components.append(describe(name, installed[name]))
    components += debian
    references = {component["bom-ref"] for component in components}
    root = {"type": "container", "bom-ref": f"{image}@{version}", "name": image, "version": version}
    dependencies = [{"ref": root["bom-ref"], "dependsOn": sorted(references)}]
    for entry in bill.get("dependencies", ()):
        if entry["ref"] in references:
            needed = [one for one in entry.get("dependsOn", ()) if one in references]
            dependencies.append({"ref": entry["ref"], "dependsOn": needed})
    return {
        **bill,
        "metadata": {**bill["metadata"], "component": root},
        "components": components,
        "dependencies": dependencies,
    }


def describe(name: str, distribution: Distribution) -> dict[str, Any]:
    """A component for a distribution that the lock does not have."""
    version = distribution.version
    return {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }


def list_debian() -> list[dict[str, Any]]:
    """Debian's packages in this root, and which release they are of."""
    release = dict(
        line.replace('"', "").split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture} ${db:Status-Abbrev}\n"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    components: list[dict[str, Any]] = [
        {
            "type": "operating-system",
            "bom-ref": "os",
            "name": release["ID"],
            "version": release["VERSION_ID"],
        }
    ]
    for line in listed.splitlines():
        name, version, architecture, status = line.split()
        if status != "ii":
            continue
        escaped = version.replace("+", "%2B").replace(":", "%3A").replace("~", "%7E")
        components.append(
            {
                "type": "library",
                "bom-ref": f"deb:{name}:{architecture}",
                "name": name,
                "version": version,
                "purl": f"pkg:deb/debian/{name}@{escaped}?arch={architecture}&distro=debian-{release['VERSION_ID']}",
            }
        )
    return components


def find_installed(environment: Path) -> Iterator[tuple[str, Distribution]]:
    """Canonical name and distribution of all that a virtual environment holds."""
    for distribution in distributions(
        path=[str(path) for path in environment.glob("lib/python*/site-packages")]
    ):
        yield canonical(distribution.metadata["Name"]), distribution


def canonical(name: str) -> str:
    """A distribution's name as an index knows it."""
    return _SEPARATORS.sub("-", name).lower()


def main() -> None:
    """Reads and writes the bill in the working directory."""
    image, version = sys.argv[1:]
    bill = complete(
        json.loads(BILL.read_text()), image, version, dict(find_installed(Path(".venv"))), list_debian()
    )
    BILL.write_text(json.dumps(bill, indent=1) + "\n")


if __name__ == "__main__":
    main()
