"""Fixtures that every test may ask for: pulled models, real samples, catalogue members.

Nothing is skipped when weights are missing: `make models` fetches them, and a test that finds none fails and says so.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cli.place import cache_dir
from cli.pull.catalog import read_catalog
from cli.pull.fetch import fetch_members
from cli.pull.samples import Sample, fetch_sample
from shared.settings import state_dir

ROOT = Path(__file__).parent.parent

# A shell that starts us in the background has SIGINT ignored; what we start would inherit that, and never feel Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def state() -> Path:
    """The state folder whose models and caches the tests read."""
    return state_dir()


@pytest.fixture(scope="session")
def models_dir(state: Path) -> Path:
    """`<state>/models` with everything pulled; each service's models lie in the folder of its name."""
    folder = state / "models"
    for service in ("vision", "nlp", "speech"):
        assert (folder / service).is_dir(), f"{folder / service} is missing: run `make models` first"
    return folder


@pytest.fixture(scope="session")
def fetch(state: Path) -> Callable[[str], Sample]:
    """A real sample with its path and fields: cat, page, portrait or beckett."""
    return lambda name: fetch_sample(name, state)


@pytest.fixture(scope="session")
def sample(fetch: Callable[[str], Sample]) -> Callable[[str], Path]:
    """A real sample's path: cat, page, portrait or beckett."""
    return lambda name: fetch(name).path


@pytest.fixture(scope="session")
def members(state: Path) -> Callable[[str, str], Mapping[str, bytes]]:
    """All pinned members of a catalogued model, path -> content: `members("vision", "pp-ocr")`."""

    def read(service: str, model: str) -> Mapping[str, bytes]:
        entries = read_catalog(ROOT / "services" / service / "models" / "catalog.toml", service)
        found: dict[str, bytes] = {}
        for source in next(entry for entry in entries if entry.name == model).sources:
            found |= fetch_members(source, cache_dir(state))
        return found

    return read
