"""A package registry of the test's own, in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.registry_in_process import Registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The only registry that pip and npm know while the test runs."""
    made = Registry()
    server = made.start()
    environ = made.environ(tmp_path)
    for name in set(os.environ) - set(environ):
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    yield made
    made.release.set()
    server.shutdown()
    server.server_close()
