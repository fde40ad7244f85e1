"""The bounds of every rpc, checked before a text is tokenized, and how they are told to those who ask.

Lives here: the numbers. Not here: the checks (`validation`).
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field
from sensorium.types.v1 import limits_pb2

from shared.errors import NotFound, Unavailable
from shared.inference.repository.repository import Repository

SERVICE = "sensorium.nlp.v1.NlpService"
RPCS = ("EmbedText", "ClassifyText", "DetectLanguage", "ExplainText")
EXPLAIN = "ExplainText"

MIN_LABELS = 2
MAX_LABELS = 64  # as the contract says
# A label is a phrase, and is embedded for every list of labels that was not seen before.
MAX_LABEL_CHARACTERS = 256
DEFAULT_LANGUAGES = 3
MAX_LANGUAGES = 100


class ExplainBounds(BaseModel):
    """What ExplainText accepts: each text is many runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # 8 texts of 256 tokens with the default runs are a minute of a core with a model of MiniLM's size.
    max_items: int = Field(default=8, ge=1, le=128, description="texts in one call")
    max_runs: int = Field(default=1024, ge=16, le=65_536, description="runs of the model per text")


class Bounds(BaseModel):
    """What the service accepts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # 128 texts of 256 tokens are 6 s of two cores.
    max_items: int = Field(default=128, ge=1, le=1024, description="texts in one call")
    # Ten times what the model reads of English; tokenizing it takes 10 ms.
    max_characters: int = Field(default=20_000, ge=1, le=1_000_000, description="code points of one text")
    cached_labels: int = Field(default=4096, ge=MAX_LABELS, description="label vectors kept; 1.5 kB each")
    explain: ExplainBounds = ExplainBounds()


def describe(
    bounds: Bounds, max_message_bytes: int, max_tokens: Mapping[str, int]
) -> list[limits_pb2.RpcLimits]:
    """Say the bounds as GetLimits tells them, one entry per rpc; `max_tokens` are those of each rpc's default model."""
    return [
        limits_pb2.RpcLimits(
            method=f"{SERVICE}/{rpc}",
            max_message_bytes=max_message_bytes,
            max_items=bounds.explain.max_items if rpc == EXPLAIN else bounds.max_items,
            # Four bytes are the longest code point in UTF-8.
            max_item_bytes=4 * bounds.max_characters,
            max_characters=bounds.max_characters,
            max_tokens=max_tokens.get(rpc, 0),
            max_runs=bounds.explain.max_runs if rpc == EXPLAIN else 0,
        )
        for rpc in RPCS
    ]


def read_max_tokens(repository: Repository) -> dict[str, int]:
    """Ask how many tokens the default model of each rpc reads, where one is ready; 0 of one that does not count them.

    Of an rpc with two defaults it is the smaller number.
    """
    found = {}
    for rpc in RPCS:
        counts = []
        for default in (rpc, f"{rpc}/candidate_labels"):
            try:
                constants = repository.model("", default).artifact.constants
            except (NotFound, Unavailable):
                continue
            counts.append(int(constants.get("max_tokens", 0)))
        if counts:
            found[rpc] = min((count for count in counts if count), default=0)
    return found
