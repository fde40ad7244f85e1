"""What the artifacts of this service's models say of themselves, as far as a pipeline needs it; named as they name it."""

from pydantic import BaseModel, ConfigDict, Field


class _Constants(BaseModel):
    # Artifacts may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    sample_rate: int = Field(ge=16_000, le=16_000)  # what clips are converted to


class DetectorConstants(_Constants):
    """Of a model that tells the probability of speech per chunk."""

    chunk_samples: int = Field(ge=1)
    threshold: float = Field(gt=0, lt=1)
    negative_threshold: float = Field(gt=0, lt=1)
    min_speech_s: float = Field(ge=0)
    min_silence_s: float = Field(ge=0)
    speech_pad_s: float = Field(ge=0)


class RecognizerConstants(_Constants):
    """Of a model that writes down what is said."""

    languages: tuple[str, ...] = Field(min_length=1)
    bos_id: int
    eos_id: int
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    max_tokens_per_second: float = Field(gt=0)
    min_token_cap: int = Field(ge=1)
    repeat_max_period: int = Field(ge=1)
    repeat_min_count: int = Field(ge=2)
    repeat_min_tokens: int = Field(ge=2)
    min_samples: int = Field(ge=1)
    max_stretch_s: float = Field(gt=1)
    join_gap_s: float = Field(ge=0)
    context_s: float = Field(ge=0)


class VoiceConstants(_Constants):
    """Of a model that describes a voice."""

    partial_samples: int = Field(ge=1)
    context_samples: int = Field(ge=0)
    hop_samples: int = Field(ge=1)
    partial_frames: int = Field(ge=1)
    frame_step: int = Field(ge=1)
    min_coverage: float = Field(ge=0, le=1)
    target_dbfs: float


class CommandConstants(BaseModel):
    """Of a model that tells commands or kinds of sound apart; its graph takes telephone rate."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sample_rate: int = Field(ge=8_000, le=8_000)
    samples: int = Field(ge=1)  # of one row of the graph
    level: float = Field(gt=0)  # root mean square that a row is brought to
    hop_samples: int | None = Field(default=None, ge=1)  # unset: a clip is one command, and one row
    max_audio_s: float = Field(gt=0)
    labels: tuple[str, ...] = Field(min_length=2)
