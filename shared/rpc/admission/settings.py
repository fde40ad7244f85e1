"""Settings of admission: how long a queue may get, and what one principal may take of a replica."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Settings


class PrincipalSettings(Settings):
    """What one principal (a token's subject) may take of one replica; unset = as much as is free."""

    max_in_flight: int | None = Field(default=None, ge=1)
    """Calls at a time."""
    compute_s_per_s: float | None = Field(default=None, gt=0)
    """Seconds of model runs a second, his share of each batch: 0.5 is half of one session. A call is charged with what it
    took, so that the one that ends the credit is still answered."""
    burst_s: float = Field(default=10.0, gt=0)
    """Seconds of model runs that are saved up at most while he is away."""

    @property
    def unlimited(self) -> bool:
        """Whether there is nothing to keep books about."""
        return self.max_in_flight is None and self.compute_s_per_s is None


class AdmissionSettings(Settings):
    """When calls are refused for load."""

    max_queue_wait_s: float = Field(default=1.0, gt=0)
    """A queue in which calls wait longer than this on average is held to be overload: from then on only so many calls of
    that model are let in as keep it busy, until it is not asked for more than it can do. `inf`: never."""
    min_in_flight: int = Field(default=64, ge=1)
    """Callers with one call each that never count as overload, however slow the model is."""
    max_in_flight: int = Field(default=2048, ge=1)
    """Calls of a replica at a time, over all models."""
    max_bytes_in_flight: int = Field(default=512 * 1024 * 1024, ge=1)
    """Request messages that are held at a time: 16 of full size, or 64 callers with 8 MB each."""
    principal: PrincipalSettings = PrincipalSettings()
    """For each principal; calls without one (direct callers) are one principal together."""
    tiers: dict[str, PrincipalSettings] = Field(default_factory=dict)
    """By tier, in the place of `principal`."""
