"""What a process of ours says it is, the same on every face: name, version, and extensions of the Open
Inference Protocol.
"""

from __future__ import annotations

import importlib.metadata

SERVER_NAME = "sensorium"
# Extensions of the protocol that work here, by Triton's names: at a replica, or at the gateway for all of them.
# `schedule_policy` is the parameters `timeout` and `priority`.
EXTENSIONS = (
    "classification",
    "schedule_policy",
    "model_configuration",
    "statistics",
    "model_repository",
    "model_repository(unload_dependents)",
    "logging",
)


def read_version() -> str:
    """Version of the installed distribution; `unknown` when run from a checkout that was never installed."""
    try:
        return importlib.metadata.version("sensorium-mesh")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
