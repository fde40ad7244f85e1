"""Runs a Dockerfile's steps in scratch roots, where there is no container engine. Needs root and debootstrap.

    python -m tests.images.scratch deploy/docker/gateway.Dockerfile --base debian:12-slim=/path/of/root

Every RUN is executed by chroot in the root that the steps before it made, every COPY copies from the build context (what
.dockerignore lets in) or from the stage it names. Out comes the root of the last stage, its size, and its configuration.
Stages that the wanted one does not need are not built. Not here: layers, caches, registries, and instructions that none of
our Dockerfiles has: those are refused.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.images.bill import hold_bill

ROOT = Path(__file__).parents[2]
_PASSIVE = {"LABEL", "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
# Where commands are found while nothing else is said.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Step:
    """One instruction, with where it stands."""

    line: int
    name: str
    text: str


@dataclass
class Stage:
    """A root under construction."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    said: dict[str, list[str]] = field(default_factory=dict)

    def expand(self, text: str) -> str:
        """Replace variables by their values; one that is not known is empty."""
        values = {**self.arguments, **self.environ}
        return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def read_steps(path: Path) -> list[Step]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    steps: list[Step] = []
    pending, begun = "", 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not pending):
            continue
        begun = begun or number
        pending += line.removesuffix("\\").strip() + " " if line.endswith("\\") else line.strip()
        if line.endswith("\\"):
            continue
        name, _, text = pending.strip().partition(" ")
        steps.append(Step(begun, name.upper(), text.strip()))
        pending, begun = "", 0
    return steps


def _leave_out(steps: Sequence[Step], wanted: str) -> list[Step]:
    """The steps of the wanted stage, the last if none is named, and of those it is made from: what BuildKit runs."""
    stages: dict[str, list[Step]] = {}
    for step in steps:
        if step.name == "FROM":
            words = step.text.split()
            stages[words[2] if len(words) == 3 else str(len(stages))] = []
        elif not stages:
            raise SystemExit(f"line {step.line}: expected FROM first, got {step.name}")
        stages[next(reversed(stages))].append(step)
    if not stages or wanted not in ("", *stages):
        raise SystemExit(f"there is no stage {wanted or 'at all'}; there are: {', '.join(stages)}")
    needed = {wanted or next(reversed(stages))}
    for name in reversed(stages):  # a stage names only stages before it
        if name in needed:
            for step in stages[name]:
                words = step.text.split()
                needed.add(words[0].removeprefix("--from=") if step.name == "COPY" else "")
                needed.add(words[0] if step.name == "FROM" else "")
    return [step for name, own in stages.items() if name in needed for step in own]


class Build:
    """One run of a Dockerfile. context: the folder that COPY copies from, ignore: its .dockerignore. mounts: of the host,
    while a step runs.
    """

    def __init__(
        self,
        context: Path,
        bases: Mapping[str, Path],
        work: Path,
        mounts: Mapping[Path, Path],
        environ: Mapping[str, str],
        ignore: Path,
    ) -> None:
        self._context, self._bases, self._work = context, bases, work
        self._mounts, self._environ = mounts, environ
        self._stages: dict[str, Stage] = {}
        self._ignored = _read_ignored(ignore)
        self._let_in = [line[1:] for line in ignore.read_text().split() if line.startswith("!")]

    def run(self, steps: Sequence[Step], build_arguments: Mapping[str, str], wanted: str = "") -> Stage:
        """All of them as far as the stage that is wanted, the last if none is named; that stage."""
        stage: Stage | None = None
        for step in _leave_out(steps, wanted):
            print(f"{step.line:4} {step.name} {step.text[:150]}", flush=True)
            if step.name == "FROM":
                stage = self._begin(step)
                continue
            if stage is None:
                raise SystemExit(f"line {step.line}: expected FROM first, got {step.name}")
            if step.name == "RUN":
                self._execute(stage, step)
            elif step.name == "COPY":
                self._copy(stage, step)
            elif step.name == "ENV":
                for pair in shlex.split(step.text):
                    name, _, value = pair.partition("=")
                    stage.environ[name] = stage.expand(value)
            elif step.name == "ARG":
                name, _, value = shlex.split(step.text)[0].partition("=")
                stage.arguments[name] = build_arguments.get(name, value)
            elif step.name == "WORKDIR":
                stage.folder = str(Path(stage.folder) / stage.expand(step.text))
                (stage.root / stage.folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif step.name == "USER":
                stage.user = step.text
            elif step.name == "SHELL":
                stage.shell = json.loads(step.text)
            elif step.name in _PASSIVE:
                stage.said.setdefault(step.name, []).append(step.text)
            else:
                raise SystemExit(f"line {step.line}: {step.name} is not known here")
        if stage is None:
            raise SystemExit("there is no FROM")
        return stage

    def _begin(self, step: Step) -> Stage:
        words = step.text.split()
        root = self._work / f"stage-{len(self._stages)}"
        if words[0] == "scratch":
            root.mkdir()
        else:
            source = self._stages[words[0]].root if words[0] in self._stages else self._bases.get(words[0])
            if source is None:
                raise SystemExit(
                    f"line {step.line}: no root is given for {words[0]}: --base {words[0]}=FOLDER"
                )
            subprocess.run(["cp", "-a", "--reflink=auto", source, root], check=True)
        stage = Stage(root, {"PATH": _PATH})
        if (before := self._stages.get(words[0])) is not None:
            stage.environ, stage.folder = dict(before.environ), before.folder
            stage.shell, stage.user = list(before.shell), before.user
        self._stages[words[2] if len(words) == 3 else str(len(self._stages))] = stage
        return stage

    def _execute(self, stage: Stage, step: Step) -> None:
        environ = {**self._environ, **stage.arguments, **stage.environ}
        command = [*stage.shell, f"cd {shlex.quote(stage.folder)} && {step.text}"]
        with self._mounted(stage.root):
            done = subprocess.run(["chroot", stage.root, *command], env=environ, check=False)
        if done.returncode:
            raise SystemExit(f"line {step.line}: RUN ended with {done.returncode}")

    def _copy(self, stage: Stage, step: Step) -> None:
        words = shlex.split(stage.expand(step.text))
        source = self._context
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).removeprefix("--from=")].root
        *names, target = words
        goal = stage.root / str(Path(stage.folder) / target).lstrip("/")
        for name in names:
            found = source / name.lstrip("/")
            if not found.exists():
                raise SystemExit(f"line {step.line}: there is no {name}")
            if source == self._context and not self._allows(name):
                raise SystemExit(f"line {step.line}: .dockerignore keeps {name} out")
            place = goal if len(names) == 1 and not target.endswith("/") else goal / found.name
            if found.is_dir():
                shutil.copytree(
                    found, goal, symlinks=True, dirs_exist_ok=True,
                    ignore=self._ignored if source == self._context else None,
                )  # fmt: skip
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)

    def _allows(self, name: str) -> bool:
        """Whether .dockerignore, which begins with `*`, lets a path of the context in."""
        path = name.rstrip("/")
        return any(path == place or path.startswith(f"{place}/") for place in self._let_in)

    @contextlib.contextmanager
    def _mounted(self, root: Path) -> Iterator[None]:
        """The kernel's file systems and the host's own, for as long as a step runs."""
        with contextlib.ExitStack() as stack:
            for place, inside in {
                Path("/proc"): Path("/proc"),
                Path("/dev"): Path("/dev"),
                **self._mounts,
            }.items():
                target = root / str(inside).lstrip("/")
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if place.is_dir():
                        target.mkdir()
                        stack.callback(target.rmdir)
                    else:
                        target.touch()
                        stack.callback(target.unlink)
                subprocess.run(["mount", "--rbind", place, target], check=True)
                stack.callback(subprocess.run, ["umount", "--lazy", "--recursive", target], check=True)
            yield


def _read_ignored(ignore: Path) -> Callable[[str, list[str]], list[str]]:
    """What shutil.copytree leaves out: the `**/` patterns of .dockerignore; folders it does not name are not copied from."""
    patterns = [line.removeprefix("**/") for line in ignore.read_text().split() if line.startswith("**/")]
    return lambda _folder, names: [
        name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]


def measure(root: Path) -> int:
    """Bytes of the files of a root, each inode once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            info = Path(folder, name).lstat()
            if (info.st_dev, info.st_ino) not in seen:
                seen.add((info.st_dev, info.st_ino))
                total += info.st_size
    return total


def main() -> None:
    """Reads the arguments, builds, prints one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--base", action="append", default=[], metavar="IMAGE=FOLDER")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--mount", action="append", default=[], metavar="PATH[=INSIDE]", help="of the host, while a step runs"
    )
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="while a step runs")
    parser.add_argument("--target", default="", metavar="STAGE")
    parser.add_argument("--context", type=Path, default=ROOT)
    parser.add_argument("--out", type=Path, help="where the last stage's root is left; default: nowhere")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("chroot and mount need root")
    bases = {name: Path(folder) for name, _, folder in (pair.rpartition("=") for pair in given.base)}
    arguments = dict(pair.split("=", 1) for pair in given.build_arg)
    environ = dict(pair.split("=", 1) for pair in given.env)
    pairs = [pair.partition("=") for pair in given.mount]
    mounts = {Path(place): Path(inside or place) for place, _, inside in pairs}
    steps = read_steps(given.dockerfile)
    with tempfile.TemporaryDirectory(prefix="scratch-", ignore_cleanup_errors=True) as work:
        # As BuildKit: the Dockerfile's own one, else that of the context.
        ignore = given.dockerfile.with_name(f"{given.dockerfile.name}.dockerignore")
        if not ignore.exists():
            ignore = given.context / ".dockerignore"
        build = Build(
            given.context.resolve(), bases, Path(work), mounts, {"HOME": "/root", **environ}, ignore
        )
        stage = build.run(steps, arguments, given.target)
        size = measure(stage.root)
        bill = hold_bill(stage.root, stage.folder)
        print(
            json.dumps(
                {"file": given.dockerfile.name, "bytes": size, "user": stage.user, "bill": bill, **stage.said}
            )
        )
        if given.out:
            shutil.rmtree(given.out, ignore_errors=True)
            stage.root.rename(given.out)


if __name__ == "__main__":
    main()
