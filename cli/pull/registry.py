"""Getting one archive through its registry's own client, as a child process: pip for wheels, npm for packs, apt-get for
Debian's packages.

No host is named here: where packages come from is the configuration of the clients. Nothing is installed, no
script of a package runs; only of a source archive pip asks its `setup.py` for its metadata, in an environment of its own,
and only after the digest was checked. The caller checks the digest; pip checks it too.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cli.failure import CommandError
from cli.pull.catalog import Source
from cli.pull.progress import Progress

# What pip and npm say when no registry can be reached at all.
_OFFLINE_SIGNS = (
    "NewConnectionError",
    "NameResolutionError",
    "Failed to establish a new connection",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Network is unreachable",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ENETUNREACH",
    "ETIMEDOUT",
    "ECONNRESET",
    "Temporary failure resolving",
    "Could not connect to",
)
# What pip prints for `--progress-bar raw`; a total of 0 means that it is not known.
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)$")
_ERROR_PREFIXES = ("ERROR:", "npm error", "npm ERR!", "E:")
_INSTALL_NPM = "npm is not installed: install Node.js with npm to have this model"
_NEEDS_DEBIAN = "apt-get is not there: this package is Debian's, and comes through a Debian or Ubuntu system"


class FetchError(CommandError):
    """An archive could not be fetched."""


class Offline(FetchError):
    """The registry could not be reached; asking it for more is pointless now."""

    def __init__(self, registry: str, client: str) -> None:
        super().__init__(
            f"the {registry} registry cannot be reached ({client} could not connect); "
            "check the network or the index settings and repeat: what was fetched is kept"
        )
        self.registry = registry


class NpmMissing(FetchError):
    """The source is an npm package and npm is not installed."""


def download(source: Source, folder: Path, progress: Progress) -> Path:
    """Fetches the archive of `source` into the empty `folder` and returns its path.

    Raises:
        NpmMissing: an npm package without npm.
        Offline: the registry cannot be reached.
        FetchError: the client failed; the text carries its last word.
    """
    if source.registry == "npm":
        return _npm(source, folder, progress)
    if source.registry == "debian":
        return _apt(source, folder, progress)
    return _pip(source, folder, progress)


def _pip(source: Source, folder: Path, progress: Progress) -> Path:
    progress.begin(source.label)
    requirements = folder.with_suffix(".txt")
    pinned = f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n"
    requirements.write_text(pinned, encoding="utf-8")
    kind = "--only-binary" if source.file.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", kind, source.package]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    command += ["--progress-bar", "raw", "--no-input", "--disable-pip-version-check"]
    # Without any retry pip does not say that it could not connect, only that it found nothing.
    command += ["--retries", "3"]
    for selector, value in source.selectors.items():
        command += [f"--{selector.replace('_', '-')}", value]
    errors = folder.with_suffix(".err")
    # Errors go to a file: two pipes read in turn could fill and stop the child.
    with errors.open("wb") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, text=True
        )
        try:
            for line in process.stdout or ():
                told = _RAW_PROGRESS.match(line)
                if told:
                    progress.advance(int(told[1]), int(told[2]) or None)
            process.wait()
        finally:
            _stop(process)
    if process.returncode != 0:
        raise _failure(source, "pip", errors.read_text(encoding="utf-8", errors="replace"))
    return _only_file(source, folder)


def _npm(source: Source, folder: Path, progress: Progress) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise NpmMissing(_INSTALL_NPM)
    progress.begin(source.label)
    command = [npm, "pack", "--ignore-scripts", "--json", "--loglevel", "error"]
    # npm's own pauses between tries are 10 s and more.
    command += ["--fetch-retries", "3", "--fetch-retry-mintimeout", "500", "--fetch-retry-maxtimeout", "4000"]
    command += [f"{source.package}@{source.version}"]
    # In the folder itself, so that no .npmrc or package.json of the caller's folder takes part.
    code, output, errors = _run(command, folder)
    if code != 0:
        raise _failure(source, "npm", errors or _npm_error(output))
    return _only_file(source, folder)


def _apt(source: Source, folder: Path, progress: Progress) -> Path:
    apt = shutil.which("apt-get")
    if apt is None:
        raise FetchError(f"{source.label}: {_NEEDS_DEBIAN}")
    progress.begin(source.label)
    # Lists of our own, so that it takes neither root nor a system whose lists are fresh.
    own = folder.with_suffix(".apt")
    (own / "lists" / "partial").mkdir(parents=True)
    (own / "cache" / "archives" / "partial").mkdir(parents=True)
    usual = [apt, "-q=2"]
    ours = [*usual, "-o", f"Dir::State::lists={own}/lists", "-o", f"Dir::Cache={own}/cache"]
    ours += ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "-o", "Acquire::Languages=none"]
    wanted = ["download", f"{source.package}={source.version}"]
    errors = ""
    for command in ([*usual, *wanted], [*ours, "update"], [*ours, *wanted]):
        _, _, errors = _run(command, folder)
        if any(folder.iterdir()):
            return _only_file(source, folder)
    raise _failure(source, "apt-get", errors)


def _run(command: list[str], folder: Path) -> tuple[int, str, str]:
    """Exit status, output and errors of a client that runs in `folder`; it ends with its caller."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = process.communicate()
    finally:
        _stop(process)
    return process.returncode, output, errors


def _npm_error(output: str) -> str:
    try:
        error = json.loads(output)["error"]
        return f"{error.get('code', '')} {error.get('summary', '')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return output


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends a client that still runs because its caller was interrupted."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _only_file(source: Source, folder: Path) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1:
        raise FetchError(f"{source.label}: expected one archive, {source.file}; got {len(files)}")
    return files[0]


def _failure(source: Source, client: str, errors: str) -> FetchError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if any(sign in errors for sign in _OFFLINE_SIGNS):
        return Offline(source.registry, client)
    if "DO NOT MATCH THE HASHES" in errors:
        return FetchError(f"{source.label}: what the registry has is not what is pinned: {source.sha256}")
    errors_told = [line for line in lines if line.startswith(_ERROR_PREFIXES)]
    said = (errors_told or lines or ["no reason given"])[0]
    for prefix in _ERROR_PREFIXES:
        said = said.removeprefix(prefix).strip()
    return FetchError(f"{source.label}: {client} could not fetch it: {said}")
