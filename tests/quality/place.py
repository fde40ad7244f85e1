"""Where a measurement finds data and keeps what it ran, so that one that was cut short goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.place import models_dir
from shared.files import write_atomically
from shared.settings import state_dir
from shared.training.provenance import ROOT, read_commit


@dataclass(frozen=True)
class Place:
    """Folders of one measurement.

    data: what `sensorium data pull` unpacked; runs: where trainings and their results are kept, one folder a topic; fresh:
    run again what was kept; models: the folders of artifacts that ship.
    """

    data: Path
    runs: Path
    fresh: bool = False
    models: tuple[Path, ...] = ()

    @classmethod
    def usual(cls, *, fresh: bool = False) -> Place:
        """The state folder's data sets, `runs/quality` of the checkout, and what ships in its tree or was pulled."""
        services = sorted(path.parent for path in (ROOT / "services").glob("*/models"))
        models = [folder / "models" for folder in services]
        models += [models_dir(state_dir(), folder.name) for folder in services]
        return cls(state_dir() / "datasets", ROOT / "runs/quality", fresh, tuple(models))

    def folder(self, topic: str, key: str) -> Path:
        """A run's own folder, for checkpoints and whatever else it writes; made if need be."""
        folder = self.runs / topic / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def once(self, topic: str, key: str, compute: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        """What `compute(folder)` gives, plain JSON values: kept in runs/quality/<topic>/<key>.json and not computed again.

        The file also says how long it took and at which commit. A run that was cut short finds its folder as it left it.
        """
        path = self.runs / topic / f"{key}.json"
        if not self.fresh and path.exists():
            result: dict[str, Any] = json.loads(path.read_text())["result"]
            return result
        if self.fresh:
            shutil.rmtree(self.runs / topic / key, ignore_errors=True)
        started_s = time.monotonic()
        result = json.loads(json.dumps(compute(self.folder(topic, key)), allow_nan=False))
        kept = {"duration_s": time.monotonic() - started_s, "commit": read_commit(ROOT), "result": result}
        write_atomically(path, json.dumps(kept, indent=1) + "\n")
        return result

    def seed_run(
        self, topic: str, seed: int, run_once: Callable[..., Mapping[str, Any]], **options: Any
    ) -> dict[str, Any]:
        """What a recipe's `run_once(seed, data_dir, out_dir, **options)` gives, kept as `seed-<n>.json`."""
        return self.once(topic, f"seed-{seed}", lambda folder: run_once(seed, self.data, folder, **options))

    def duration_s(self, topic: str, key: str) -> float:
        """How long a kept run took on the machine that it ran on."""
        return float(json.loads((self.runs / topic / f"{key}.json").read_text())["duration_s"])
