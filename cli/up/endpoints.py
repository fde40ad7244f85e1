"""Where the replicas of this machine listen, one file each, for the gateway to watch: `run/endpoints/<service>/<n>`."""

import shutil
from pathlib import Path

from shared.files import write_atomically


class Endpoints:
    """The folder; it starts empty, because what an earlier run left there is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    def publish(self, service: str, name: str, address: str | None) -> None:
        """Says where the replica `name` of `service` is, or that it is gone."""
        path = self._folder / service / name
        if address is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, address)


def endpoints_folder(state: Path) -> Path:
    """Where they are."""
    return state / "run" / "endpoints"


def read_endpoints(state: Path) -> dict[str, str]:
    """Where each replica of this machine listens, by its name."""
    found: dict[str, str] = {}
    for path in endpoints_folder(state).glob("*/[!.]*"):
        try:
            found[path.name] = path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue  # it ended while we looked
    return found
