"""Tuned settings as values: what was tried with a model, what came out, and which settings were best.

Not here: where they are kept (`record.py`).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TunedValues(BaseModel):
    """Settings that tuning finds, by the names of `ModelSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(ge=1)
    target_batch_s: float = Field(gt=0)
    intra_op_threads: int = Field(ge=1, le=1024)
    instances: int = Field(ge=1, le=64)

    def fit(self, cores: int) -> TunedValues:
        """The values for a replica that has fewer cores than were there for tuning; the same where it has enough."""
        threads = min(self.intra_op_threads, cores)
        return self.model_copy(
            update={
                "intra_op_threads": threads,
                "instances": max(1, min(self.instances, cores // threads)),
            }
        )


class Figures(BaseModel):
    """What was measured with one set of values: medians over rounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items_per_s: float
    latency_s: float  # 95th percentile with as many callers as keep every instance busy
    alone_s: float  # median with one caller
    cpu_s_per_item: float
    rows: float  # of a batch, on average


class Candidate(BaseModel):
    """One set of values and its figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: TunedValues
    figures: Figures


class Tuned(BaseModel):
    """All that a file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str  # `<service>/<model>`
    version: str
    digest: str
    runtime: str
    provider: str
    cpu: str
    cores: int  # that were there for it
    measured_at: str  # ISO 8601, UTC
    latency_target_s: float
    best: Candidate
    candidates: tuple[Candidate, ...]
