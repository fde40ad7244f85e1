"""Artifacts: what a recipe makes, how it is written to an immutable folder, how it is read back and checked.

Here: the values (`Draft`, `Artifact`) and the folder format. Not here: where weights come from (recipes and
the catalogue), sessions, serving. Layout: `<models dir>/<model>/<version>/{artifact.json, graphs, assets,
golden.npz, card.md}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.files import open_regular
from shared.inference.draft import Draft, GraphDraft, collect_files, describe
from shared.inference.folder import write_folder
from shared.inference.manifest import (
    CARD,
    GOLDEN,
    MANIFEST,
    SIGNATURE,
    ArtifactError,
    Graph,
    Manifest,
    Tensor,
    check_manifest,
)

__all__ = [
    "CARD",
    "GOLDEN",
    "MANIFEST",
    "Artifact",
    "ArtifactError",
    "Draft",
    "Graph",
    "GraphDraft",
    "Tensor",
    "copy_artifact",
    "digest_manifest",
    "read_artifact",
    "verify",
    "write_artifact",
]

# numpy reads an array's header with `ast.literal_eval`, and CPython 3.11 counts that function's depth for all threads
# together: two threads in it fail now and then with a SystemError. Models that load at the same time take turns.
_NUMPY_HEADERS = threading.Lock()

# Of artifact.json, which is read before it is known whose it is: real ones are of 10 kB.
_MAX_MANIFEST_BYTES = 8 << 20

# The content of artifact.json -> that of its signature.
Sign: TypeAlias = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Artifact:
    """An artifact folder that was read: immutable, its digests not yet checked (`verify`)."""

    folder: Path
    manifest: Manifest
    digest: str  # "sha256:<hex>" of the canonical JSON (sorted keys, no spaces, UTF-8) of artifact.json
    content: bytes = field(repr=False)  # of artifact.json, as it was read

    @property
    def name(self) -> str:
        """Name without the service, e.g. `efficientnet-lite0`."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Version, e.g. `1`."""
        return self.manifest.version

    @property
    def service(self) -> str:
        """Service that it belongs to, e.g. `vision`."""
        return self.manifest.service

    @property
    def task(self) -> str:
        """The rpc that it was made for, e.g. `ClassifyImage`."""
        return self.manifest.task

    @property
    def description(self) -> str:
        """What it is, in one sentence."""
        return self.manifest.description

    @property
    def license(self) -> str:
        """SPDX identifier of the weights' licence, or `none stated`."""
        return self.manifest.license

    @property
    def graphs(self) -> Mapping[str, Graph]:
        """Its graphs by name."""
        return self.manifest.graphs

    @property
    def constants(self) -> Mapping[str, Any]:
        """What pre- and postprocessing need to know: mean, std, size, thresholds, …"""
        return self.manifest.constants

    @property
    def preprocessing(self) -> str:
        """Version of the preprocessing that it expects, e.g. `image-rgb-224/1`."""
        return self.manifest.preprocessing

    def asset(self, name: str) -> Path:
        """Path of an asset, e.g. `labels`.

        Raises:
            ArtifactError: the artifact has no such asset.
        """
        try:
            return self.folder / self.manifest.assets[name]
        except KeyError:
            known = ", ".join(sorted(self.manifest.assets)) or "none"
            raise ArtifactError(f"{self.name}: asset {name!r} is not among its assets: {known}") from None

    def graph_file(self, graph: str) -> Path:
        """Path of a graph's file."""
        return self.folder / self.graphs[graph].file

    def read_golden(self) -> dict[str, NDArray[Any]]:
        """Read the golden inputs and outputs: `<graph>/in/<input>` and `<graph>/out/<output>`.

        Raises:
            ArtifactError: the file is missing or not a plain .npz.
        """
        try:
            with _NUMPY_HEADERS, np.load(self.folder / GOLDEN, allow_pickle=False) as golden:
                return {key: golden[key] for key in golden.files}
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{GOLDEN} cannot be read: {error}") from error


def digest_manifest(manifest: Mapping[str, Any]) -> str:
    """`sha256:<hex>` of the canonical JSON (sorted keys, no spaces, UTF-8)."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def read_artifact(folder: Path, *, placed: bool = True) -> Artifact:
    """Read and check artifact.json of `<models dir>/<model>/<version>`; file digests are left to `verify`.

    `placed`: the folders must bear the names of the model and its version; else it may lie anywhere.

    Raises:
        ArtifactError: the folder or the file is missing, or a field is not as the format says.
    """
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
        if len(content) > _MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{MANIFEST}: expected at most {_MAX_MANIFEST_BYTES} bytes, got more")
        document = json.loads(content)
        manifest = Manifest.model_validate(document)
        digest = digest_manifest(document)
    except FileNotFoundError:
        raise ArtifactError(f"{MANIFEST} is missing in {folder}") from None
    except OSError as error:
        raise ArtifactError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{MANIFEST}: {where}: {first['msg']}, got {first['input']!r:.100}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{MANIFEST} is not JSON: {error}") from error
    check_manifest(manifest)
    for field_name, expected, got in (
        ("name", folder.parent.name, manifest.name),
        ("version", folder.name, manifest.version),
    ):
        if placed and expected != got:
            raise ArtifactError(f"{MANIFEST}: {field_name}: expected the folder's {expected!r}, got {got!r}")
    return Artifact(folder, manifest, digest, content)


def verify(artifact: Artifact) -> None:
    """Compare every file of the artifact with the size and digest that artifact.json states.

    Raises:
        ArtifactError: a file is missing, its size or digest differ, or artifact.json says nothing of it; names the file,
            expected and got.
    """
    _check_names(artifact)
    for name in sorted(artifact.manifest.files):
        with _reading(artifact, name) as file:
            _check_digest(artifact, name, hashlib.file_digest(file, "sha256").hexdigest())


def copy_artifact(
    artifact: Artifact, models_dir: Path, *, version: str = "", sign: Sign | None = None
) -> Artifact:
    """Copy an artifact to `<models_dir>/<name>/<version>`, whole or not at all: what was checked is what is written.

    `version`: another one that the copy is to be. `sign` makes its signature; the original's is not copied. What is there
    of this version is replaced.

    Raises:
        ArtifactError: a file is not as artifact.json states, or cannot be written.
    """
    _check_names(artifact)
    contents = {}
    for name in sorted(artifact.manifest.files):
        with _reading(artifact, name) as file:
            contents[name] = file.read()
        _check_digest(artifact, name, hashlib.sha256(contents[name]).hexdigest())
    contents[MANIFEST] = artifact.content
    if version and version != artifact.version:
        contents[MANIFEST] = _render({**json.loads(artifact.content), "version": version})
    if sign is not None:
        contents[SIGNATURE] = sign(contents[MANIFEST])
    return _write(models_dir / artifact.name / (version or artifact.version), contents)


def _check_names(artifact: Artifact) -> None:
    """Check that the folder holds nothing else: a graph could read what nobody has vouched for.

    Names that begin with a dot are passed over; file systems and desktops put such files anywhere.
    """
    try:
        with os.scandir(artifact.folder) as entries:
            there = {entry.name for entry in entries if not entry.name.startswith(".")}
    except OSError as error:
        raise ArtifactError(f"{artifact.folder} cannot be read: {error.strerror}") from error
    if strangers := sorted(there - artifact.manifest.files.keys() - {MANIFEST, SIGNATURE}):
        raise ArtifactError(f"{strangers[0]} is not among the files of {MANIFEST}; take it out of the folder")


@contextmanager
def _reading(artifact: Artifact, name: str) -> Iterator[BufferedReader]:
    """A file of the artifact, of the size that is stated: what is no regular file might never end."""
    try:
        with open_regular(artifact.folder / name) as file:
            size, stated = os.fstat(file.fileno()).st_size, artifact.manifest.files[name]
            if size != stated.bytes:
                raise ArtifactError(
                    f"{name}: expected {stated.bytes} bytes, got {size}; pull or make the model again"
                )
            yield file
    except FileNotFoundError:
        raise ArtifactError(f"{name} is missing; pull or make the model again") from None
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror}") from error


def _check_digest(artifact: Artifact, name: str, sha256: str) -> None:
    stated = artifact.manifest.files[name]
    if sha256 != stated.sha256:
        raise ArtifactError(
            f"{name}: expected sha256 {stated.sha256}, got {sha256}; it was changed, pull or make the model again"
        )


def write_artifact(
    models_dir: Path,
    entry: Mapping[str, Any],
    draft: Draft,
    *,
    replace: bool = False,
    sign: Sign | None = None,
) -> Artifact:
    """Write a draft to `<models_dir>/<name>/<version>`, whole or not at all.

    `entry` holds the catalogue's fields plus what the catalogue's place says: required `name`, `service`,
    `version`, `task`, `license`; optional `description`, `license_note`, `training_data`, `source` (tables of
    which registry, package, version and sha256 are kept), `recipe`, `recipe_sha256`, `made` (a Made) and `quality`
    (a Quality) of trained models, `card_text` (Markdown, becomes card.md).

    A folder that is there already and holds the same artifact is left as it is. One that is damaged is
    replaced; one that is whole but different is replaced only with `replace`. `sign` makes the signature of artifact.json.

    Raises:
        ArtifactError: a field is missing or wrong, the draft's parts do not fit each other, another artifact
        of this
            version is there, or the files cannot be written.
    """
    contents = collect_files(entry, draft)
    document = describe(entry, draft, contents)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{where}: {first['msg']}, got {first['input']!r:.100}") from error
    check_manifest(manifest)
    contents[MANIFEST] = _render(document)
    target = models_dir / manifest.name / manifest.version
    if (there := _read_whole(target)) is not None:
        same = there.digest == digest_manifest(document)
        if same and sign is None:
            return there
        if not same and not replace:
            raise ArtifactError(
                f"{manifest.name} {manifest.version} is there already with another content ({there.digest}); "
                "artifacts do not change: give the new one another version, or remove the old one first"
            )
    if sign is not None:
        contents[SIGNATURE] = sign(contents[MANIFEST])
    return _write(target, contents)


def _render(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _write(target: Path, contents: Mapping[str, bytes]) -> Artifact:
    try:
        write_folder(target, contents)
    except OSError as error:
        raise ArtifactError(f"{target} cannot be written: {error.strerror}") from error
    return read_artifact(target)


def _read_whole(folder: Path) -> Artifact | None:
    """The artifact in a folder if it is there and undamaged."""
    if not folder.exists():
        return None
    try:
        artifact = read_artifact(folder)
        verify(artifact)
    except ArtifactError:
        return None
    return artifact
