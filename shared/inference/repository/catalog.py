"""The catalogue as a serving process needs it: which models are known, and which one answers which rpc by
default.

Not here: fetching and building (the command line's).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Catalog = Mapping[str, Mapping[str, Any]]


def read_catalog(path: Path) -> Catalog:
    """Read `services/<service>/models/catalog.toml`: model -> its fields.

    Raises:
        OSError: the file cannot be read.
        tomllib.TOMLDecodeError: it is not TOML.
    """
    with path.open("rb") as file:
        return tomllib.load(file)


def list_defaults(catalog: Catalog, name: str) -> Sequence[str]:
    """The rpcs of which a model is the catalogued default."""
    return [str(rpc) for rpc in catalog.get(name, {}).get("default_for", ())]
