"""Catalogues: which public package holds a model's bytes, and by which digests.

Lives here: reading `services/<service>/models/catalog.toml` and files of the same shape, with errors that
name the file, the entry and the key. Not here: fetching, and what a recipe does with the bytes.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.failure import CommandError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX = "a sha256 as 64 lower-case hex digits"
_ENTRY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# What a package manager takes as a name: npm scopes included, nothing that reads as an option or a path.
_PACKAGE = {
    "pypi": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    "npm": re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*"),
    "debian": re.compile(r"[a-z0-9][a-z0-9.+-]+"),
}
# Debian's may begin with an epoch, `1:`.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_:~-]*")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TASK = re.compile(r"[A-Za-z]+")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+%~-]*")
# pip's own selectors, for wheels that are built for one platform.
_SELECTORS = ("platform", "python_version", "implementation", "abi")


class CatalogError(CommandError):
    """A catalogue cannot be used: the text names file, entry, key, what was expected and what is there."""


@dataclass(frozen=True)
class Source:
    """One archive of a public registry and what is read out of it: members pinned one by one, or, of data sets of many
    files, all whose paths match a pattern.
    """

    registry: str
    package: str
    version: str
    file: str
    sha256: str
    members: Mapping[str, str]  # path in the archive -> sha256 of its content
    selectors: Mapping[str, str] = field(default_factory=dict)  # pip's --platform, --abi, …: name -> tag
    files: tuple[str, ...] = ()  # patterns of paths, as the shell's; `*` matches `/` as well
    inside: str = ""  # the archive within the archive that holds them

    @property
    def label(self) -> str:
        """How a user names it: `package version`."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Entry:
    """One model of a catalogue. `fields` is the entry as it is written there.

    It is made of `sources` by a recipe, or it is shipped: the whole artifact lies beside the catalogue.
    """

    service: str
    name: str
    version: str
    task: str
    recipe: str  # "" where it is shipped
    sources: tuple[Source, ...]
    fields: Mapping[str, object]
    path: Path
    shipped: bool = False

    @property
    def public_name(self) -> str:
        """`<service>/<model>`, as requests may say it."""
        return f"{self.service}/{self.name}"

    def text(self, key: str) -> str:
        """The optional text under `key`; empty if there is none."""
        value = self.fields.get(key, "")
        return value if isinstance(value, str) else ""

    @property
    def shipped_folder(self) -> Path:
        """Where the artifact of a shipped one lies in the checkout."""
        return self.path.parent / self.name / self.version


def read_sources(
    path: Path, *, may_ship: bool = False
) -> dict[str, tuple[Mapping[str, object], tuple[Source, ...]]]:
    """Reads a TOML file whose entries have `source` lists: entry name -> (the entry, its sources).

    `may_ship`: an entry that says `shipped = true` has none.

    Raises:
        CatalogError: the file cannot be read, or something in it is not as it must be.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: is not TOML: {error}") from error
    entries: dict[str, tuple[Mapping[str, object], tuple[Source, ...]]] = {}
    for name, entry in document.items():
        if not isinstance(entry, dict):
            raise CatalogError(f"{path}: {name}: expected a table [{name}], got {type(entry).__name__}")
        if not _ENTRY_NAME.fullmatch(name):
            raise CatalogError(f"{path}: [{name}]: a name is lower-case letters, digits, '.', '_' and '-'")
        sources = entry.get("source")
        if may_ship and "shipped" in entry:
            if entry["shipped"] is not True:
                raise CatalogError(f"{path}: [{name}]: shipped: expected true, or no such key")
            for key in ("source", "recipe"):
                if key in entry:
                    raise CatalogError(
                        f"{path}: [{name}]: {key}: expected none, for a shipped artifact is not made here"
                    )
            sources = []
        elif not isinstance(sources, list) or not sources:
            raise CatalogError(f"{path}: [{name}]: source: expected at least one [[{name}.source]], got none")
        where = f"{path}: [{name}] source"
        pinned = [parse_source(source, where=f"{where} {number}") for number, source in enumerate(sources, 1)]
        entries[name] = (entry, tuple(pinned))
    return entries


def read_catalog(path: Path, service: str) -> list[Entry]:
    """Reads the catalogue of `service`, in the order of the file.

    Raises:
        CatalogError: as `read_sources`, or a required key is missing or of the wrong kind.
    """
    entries = []
    for name, (fields, sources) in read_sources(path, may_ship=True).items():
        where = f"{path}: [{name}]"
        shipped = "shipped" in fields
        recipe = ""
        if not shipped:
            expected = "a module, e.g. 'services.vision.models.centernet'"
            recipe = _text(fields, "recipe", where, _MODULE, expected)
        for key in ("description", "license", "training_data"):
            _text(fields, key, where, re.compile(r"(?s).+"), "a text")
        if "fetch_only" in fields:
            _text(
                fields,
                "fetch_only",
                where,
                re.compile(r"(?s).+"),
                "why the weights are not passed on, a text",
            )
        defaults = fields.get("default_for", [])
        if not isinstance(defaults, list) or not all(isinstance(rpc, str) for rpc in defaults):
            raise CatalogError(f"{where}: default_for: expected a list of rpc names, got {defaults!r}")
        entries.append(
            Entry(
                service=service,
                name=name,
                version=_text(fields, "version", where, _VERSION, 'a version as text, e.g. "1"'),
                task=_text(fields, "task", where, _TASK, "an rpc's name, e.g. 'EmbedText'"),
                recipe=recipe,
                sources=sources,
                fields=fields,
                path=path,
                shipped=shipped,
            )
        )
    return entries


def read_catalogs(root: Path) -> list[Entry]:
    """Reads every `services/<service>/models/catalog.toml` under the checkout `root`, sorted by service.

    Raises:
        CatalogError: one of them cannot be used, or there is none.
    """
    paths = sorted((root / "services").glob("*/models/catalog.toml"))
    if not paths:
        raise CatalogError(f"{root}: no services/*/models/catalog.toml found; run from a complete checkout")
    return [entry for path in paths for entry in read_catalog(path, path.parts[-3])]


def choose(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """The entries that `names` mean: `<model>`, `<service>/<model>`, or a service for all of its models.

    No names mean all.

    Raises:
        CommandError: a name means nothing, or one of several; the text lists what there is.
    """
    if not names:
        return list(entries)
    chosen: dict[str, Entry] = {}
    for name in names:
        found = [entry for entry in entries if name in (entry.public_name, entry.name)]
        if len(found) > 1:
            candidates = ", ".join(entry.public_name for entry in found)
            raise CommandError(f"model '{name}' is one of {candidates}: say which", exit_code=2)
        found = found or [entry for entry in entries if entry.service == name]
        if not found:
            known = ", ".join(entry.name for entry in entries)
            raise CommandError(f"no model is called '{name}'; there are {known}", exit_code=2)
        chosen.update((entry.public_name, entry) for entry in found)
    return list(chosen.values())


def parse_source(table: object, *, where: str = "source") -> Source:
    """Checks one `[[….source]]` table.

    Raises:
        CatalogError: a key is missing, unknown or not as it must be; the text begins with `where`.
    """
    if not isinstance(table, Mapping):
        raise CatalogError(f"{where}: expected a table, got {type(table).__name__}")
    unknown = set(table) - {
        "registry",
        "package",
        "version",
        "file",
        "sha256",
        "members",
        "files",
        "inside",
        *_SELECTORS,
    }
    if unknown:
        raise CatalogError(f"{where}: {sorted(unknown)[0]}: unknown key")
    registry = table.get("registry")
    if registry not in _PACKAGE:
        raise CatalogError(f"{where}: registry: expected {' or '.join(_PACKAGE)}, got {registry!r}")
    files = table.get("files", [])
    if not isinstance(files, list) or not all(isinstance(pattern, str) and pattern for pattern in files):
        raise CatalogError(f"{where}: files: expected a list of patterns, got {files!r}")
    members = table.get("members", {})
    if not isinstance(members, Mapping) or bool(members) == bool(files):
        raise CatalogError(
            f"{where}: members: expected a table of path = sha256 (or `files`, and not both), got {members!r}"
        )
    for path, digest in members.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise CatalogError(f"{where}: members: {path}: expected {_HEX}, got {digest!r}")
    return Source(
        registry=registry,
        package=_text(table, "package", where, _PACKAGE[registry], "a package name"),
        version=_text(table, "version", where, _VERSION, "an exact version"),
        file=_text(table, "file", where, _FILE, "the archive's file name"),
        sha256=_text(table, "sha256", where, _SHA256, _HEX),
        members=dict(members),
        selectors={
            key: _text(table, key, where, _VERSION, "a tag as pip takes it")
            for key in _SELECTORS
            if key in table
        },
        files=tuple(files),
        inside=_text(table, "inside", where, re.compile(r".+"), "a path in the archive")
        if "inside" in table
        else "",
    )


def _text(table: Mapping[str, object], key: str, where: str, pattern: re.Pattern[str], expected: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        got = "nothing" if value is None else repr(value)
        raise CatalogError(f"{where}: {key}: expected {expected}, got {got}")
    return value
