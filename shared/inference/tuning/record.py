"""Tuned settings of a model in the state folder: written by `sensorium models tune`, read where models are loaded.

Here: the files, and when their values hold. Not here: measuring (`cli.tune`), what is stronger than a tuned value
(`shared.inference.settings`).

One file for each artifact, runtime, provider and CPU: `<state>/tuned/<model>-<key>.json`. Another build of any of
them finds none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.files import write_atomically
from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.tuning.values import Tuned
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

_FOLDER = "tuned"


@dataclass(frozen=True, slots=True)
class TunedFolder:
    """The folder of tuned settings of one state folder."""

    state: Path

    def find(self, name: str, digest: str, provider: str) -> Tuned | None:
        """What was measured of a model's artifact (`name` without the service) with this runtime, provider and CPU."""
        return self._read(self._path(name, digest, provider))

    def list_all(self, name: str) -> list[Tuned]:
        """All that was ever measured of a model, also with other artifacts, runtimes and providers, newest first."""
        found = [tuned for path in self._list_files(name) if (tuned := self._read(path)) is not None]
        return sorted(found, key=lambda tuned: tuned.measured_at, reverse=True)

    def keep(self, tuned: Tuned) -> Path:
        """Write the values down, in place of those of before.

        Raises:
            OSError: the file cannot be written.
        """
        path = self._path(tuned.model.partition("/")[2], tuned.digest, tuned.provider)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, tuned.model_dump_json(indent=2) + "\n")
        return path

    def forget(self, name: str) -> int:
        """Remove all that was measured of a model; gives the number of files.

        Raises:
            OSError: a file cannot be removed.
        """
        count = 0
        for path in self._list_files(name):
            path.unlink(missing_ok=True)
            path.with_suffix(".svg").unlink(missing_ok=True)
            count += 1
        return count

    def _path(self, name: str, digest: str, provider: str) -> Path:
        key = [digest, describe_runtime(), provider, describe_cpu()]
        return (
            self.state / _FOLDER / f"{name}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        )

    def _list_files(self, name: str) -> Iterable[Path]:
        # A key has no dash: another model whose name begins alike has more than one part left.
        for path in (self.state / _FOLDER).glob("*.json"):
            if path.stem.rpartition("-")[0] == name:
                yield path

    def _read(self, path: Path) -> Tuned | None:
        try:
            content: Any = json.loads(path.read_bytes())
            return Tuned.model_validate(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ValidationError, RecursionError) as error:
            _log.warning("tuned settings cannot be read", file=str(path), reason=str(error).splitlines()[0])
            return None
