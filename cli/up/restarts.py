"""Which replicas of this machine were started again, how often and why: `run/restarts/<name>`, for `sensorium status`."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.up.endpoints import read_endpoints
from shared.files import write_atomically


@dataclass(frozen=True)
class Restart:
    """The restarts of one replica since the mesh began. at: Unix time of the last one, why: what ended it."""

    count: int
    at: float
    why: str


class Restarts:
    """The folder; it starts empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, int] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)

    def add(self, name: str, why: str) -> None:
        """Says that the replica `name` is started again."""
        self._counts[name] = self._counts.get(name, 0) + 1
        restart = Restart(self._counts[name], time.time(), why)
        write_atomically(self._folder / name, json.dumps(asdict(restart)))


def restarts_folder(state: Path) -> Path:
    """Where they are."""
    return state / "run" / "restarts"


def read_restarts(state: Path) -> dict[str, Restart]:
    """By the endpoint at which each replica listens now; only of a mesh that runs from this state folder."""
    found: dict[str, Restart] = {}
    for name, endpoint in read_endpoints(state).items():
        try:
            found[endpoint] = Restart(**json.loads((restarts_folder(state) / name).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            continue
    return found
