"""The version that this process says it has, the same on every face."""

from __future__ import annotations

import importlib.metadata


def read_version() -> str:
    """Version of the installed distribution; `unknown` when run from a checkout that was never installed."""
    try:
        return importlib.metadata.version("sensorium-mesh")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
