"""The trained models that ship, and what making each again from its recorded command gives.

Making one again writes, below runs/quality/rebuilt/<service>-<model>: `artifact/<model>/<version>`, and what `release` and
`check_parity` keep beside it.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.inference.artifact import Artifact, ArtifactError, read_artifact
from shared.training.provenance import ROOT
from tests.quality.place import Place

# A default recipe is asked to train in ten minutes on two cores; this machine may be busy.
_LIMIT_S = 3600.0


@dataclass(frozen=True)
class Shipped:
    """A trained model as it ships: in the tree, or made by `sensorium models pull` out of published weights."""

    artifact: Artifact

    @property
    def key(self) -> str:
        """`<service>-<model>`, the name of its run."""
        return f"{self.artifact.service}-{self.artifact.name}"

    @property
    def title(self) -> str:
        """`<service>/<model>`, as rows say it."""
        return f"{self.artifact.service}/{self.artifact.name}"

    @property
    def command(self) -> list[str]:
        """The recorded command's words, behind `python`."""
        return shlex.split(self.artifact.manifest.made.command)[1:]


@dataclass(frozen=True)
class Rebuilt:
    """What the recorded command made."""

    folder: Path
    artifact: Artifact
    duration_s: float
    cpu_s: float | None  # of the command and all that it started; None of runs that did not say it


def list_shipped(place: Place) -> list[Shipped]:
    """All artifacts that say by which command they were trained, by service and name; each once."""
    found: dict[str, Shipped] = {}
    for path in (path for models in place.models for path in sorted(models.glob("*/*/artifact.json"))):
        try:
            shipped = Shipped(read_artifact(path.parent))
        except ArtifactError:
            continue  # an older format, or none of ours: `sensorium models verify` tells
        if shipped.artifact.manifest.made.command:
            found.setdefault(shipped.key, shipped)
    return [found[key] for key in sorted(found)]


def rebuild(shipped: Shipped, place: Place) -> Rebuilt:
    """Run the recorded command, unless that was done before, and read what it made.

    Raises:
        RuntimeError: the command failed; the text ends with what it said.
    """
    name = shipped.artifact.name

    def run(folder: Path) -> Mapping[str, Any]:
        # As many threads as then: sums of another order round differently.
        threads = shipped.artifact.manifest.made.environment.get("threads")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_command(shipped.command, folder, threads=int(threads) if threads else None)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        made = sorted((folder / "artifact" / name).glob("*/artifact.json"))
        if len(made) != 1:
            raise RuntimeError(f"{shipped.title}: expected one version in {folder / 'artifact' / name}")
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"version": made[0].parent.name, "cpu_s": cpu_s}

    result = place.once("rebuilt", shipped.key, run)
    folder = place.folder("rebuilt", shipped.key)
    return Rebuilt(
        folder,
        read_artifact(folder / "artifact" / name / result["version"]),
        place.duration_s("rebuilt", shipped.key),
        result.get("cpu_s"),
    )


def run_command(words: list[str], out: Path, *, processes: int = 1, threads: int | None = None) -> str:
    """Run a training command with its results in `out`; several processes run under torch's own launcher.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, *words]
    if processes > 1:
        if words[0] != "-m":
            raise ValueError(f"expected a module, got {words}")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *words]
    environ = dict(os.environ)
    if threads is not None:
        environ["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_LIMIT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
