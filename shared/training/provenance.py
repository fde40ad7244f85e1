"""What an artifact is told of its own making: command, code, data, environment.

Lives here: collecting it, without a path of this machine. Not here: the fields (`shared.inference.manifest.Made`),
writing them (`release.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime

from shared.inference.machine import describe_cpu
from shared.inference.manifest import Data, Made

ROOT = Path(__file__).parents[2]
# What a making is not told: places, and how it was interrupted.
_LEFT_OUT = frozenset({"data", "out", "fresh", "checkpoint_every"})
_PACKAGES = ("torch", "numpy", "onnx", "onnxscript", "scikit-learn", "tokenizers")


def collect_made(
    module: str,
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    data: Iterable[Data],
    *,
    tolerance: Mapping[str, float] | None = None,
) -> Made:
    """The manifest's `made` of a training script.

    module: the script as `python -m` takes it. data: what was read, see `digest_data`. tolerance: metric -> how far another
    making from the same command may be off; 0.01 of accuracy where nothing is said.

    Arguments that hold a path are left out, for they say something of this machine only.
    """
    said = {
        name: value
        for name, value in sorted(vars(arguments).items())
        if name not in _LEFT_OUT and not isinstance(value, Path) and not name.startswith("_")
    }
    return Made(
        command=describe_command(module, parser, arguments),
        commit=read_commit(ROOT, _find_sources(module)),
        seed=getattr(arguments, "seed", None),
        arguments=json.loads(json.dumps(said, default=str)),
        environment=describe_environment(),
        data=tuple(data),
        tolerance={"accuracy": 0.01} if tolerance is None else dict(tolerance),
    )


def describe_command(module: str, parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The command that gives the same arguments again: `python -m MODULE --seed 3`; places and defaults are not said."""
    words = ["python", "-m", module]
    for action in parser._actions:
        if not action.option_strings or action.dest in _LEFT_OUT or not hasattr(arguments, action.dest):
            continue
        value = getattr(arguments, action.dest)
        # The seed and the threads are said always: the one is what a reader looks for, the other changes the last digits.
        if isinstance(value, Path) or (value == action.default and action.dest not in ("seed", "threads")):
            continue
        flag = max(action.option_strings, key=len)
        if action.nargs == 0:
            no = next((text for text in action.option_strings if text.startswith("--no-")), None)
            if (said := flag if value else no) is not None:
                words.append(said)
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    return shlex.join(words)


def digest_data(name: str, files: Iterable[Path], root: Path) -> Data:
    """The digest of the files that were read: of each one's path below `root` and content, in the order of the paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return Data(name=name, sha256=digest.hexdigest())


def _find_sources(module: str) -> list[str]:
    """What a training script's result depends on: `services.nlp.training.train_topics` reads no other service."""
    parts = module.split(".")
    service = "/".join(parts[:2]) if parts[0] == "services" else "services"
    return ["shared/training", "shared/inference", f"{service}/training", f"{service}/pipeline"]


def read_commit(root: Path, sources: Sequence[str] = ()) -> str:
    """The commit of the checkout, with `+changed` where files below `sources` differ from it; empty outside a checkout."""

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.strip()

    try:
        return ask("rev-parse", "HEAD") + ("+changed" if ask("status", "--porcelain", "--", *sources) else "")
    except (OSError, subprocess.SubprocessError):
        return ""  # an image has the code without its history


def describe_environment() -> dict[str, str]:
    """Versions and CPU that a result depends on in its last digits."""
    found = {
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "cpu": describe_cpu(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["threads"] = os.environ.get("OMP_NUM_THREADS", "")
    return {name: said for name, said in found.items() if said}
