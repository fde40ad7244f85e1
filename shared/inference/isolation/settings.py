"""Settings of isolation: when a run counts as hanging, how long blame lasts."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Settings


class IsolationSettings(Settings):
    """How long things may take before a model is held to hang; frozen. All times are in seconds."""

    run_timeout_s: float = Field(default=30.0, gt=0, le=86_400)
    """A run that takes longer is asked to stop and its model taken out, unless runs of its size have been learned to
    take a tenth of that time or more: then ten times as long. The longest run of a shipped model takes 2 s."""
    grace_s: float = Field(default=5.0, gt=0, le=3600)
    """How long a run that was asked to stop may take to return; after it the replica restarts itself."""
    load_timeout_s: float = Field(default=600.0, gt=0, le=86_400)
    """How long opening a model and checking its golden outputs may take. An engine for a GPU is built meanwhile."""
    restart_s: float = Field(default=30.0, gt=0, le=3600)
    """How long a replica that restarts itself may drain; after it the process ends with calls in flight."""
    blame_s: float = Field(default=86_400.0, gt=0, le=31_536_000)
    """How long a crash or a hang counts against a model; a quarantined one is tried again when they no longer do."""
