"""Calls about texts."""

from collections.abc import Sequence

from sensorium.calls.listing import listing
from sensorium.calls.plan import Plan, Rpc
from sensorium.nlp.v1 import nlp_service_pb2 as pb2
from sensorium.results import LabelScore, TextEmbedding, TextLabels

_SERVICE = "/sensorium.nlp.v1.NlpService"
_EMBED = Rpc(f"{_SERVICE}/EmbedText", pb2.EmbedTextRequest, pb2.EmbedTextResponse)
_CLASSIFY = Rpc(f"{_SERVICE}/ClassifyText", pb2.ClassifyTextRequest, pb2.ClassifyTextResponse)

# Below the service's default; more calls of fewer texts also spread over replicas.
_MAX_ITEMS = 32


def embed_text(texts: Sequence[str], *, model: str) -> Plan[list[TextEmbedding]]:
    """See `Client.embed_text`."""
    return listing(
        _EMBED,
        _check(texts),
        sizes=[len(text) for text in texts],
        max_items=_MAX_ITEMS,
        ask=lambda some: pb2.EmbedTextRequest(model=model, texts=some),
        kind=TextEmbedding,
        parse=lambda item: {
            "values": tuple(item.embedding.values),
            "token_count": item.token_count,
            "truncated": item.truncated,
            "reliable": item.language_support != pb2.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT,
        },
    )


def classify_text(texts: Sequence[str], labels: Sequence[str], *, model: str) -> Plan[list[TextLabels]]:
    """See `Client.classify_text`."""
    if isinstance(labels, str):
        raise TypeError("labels: expected a list of labels, got one text")
    return listing(
        _CLASSIFY,
        _check(texts),
        sizes=[len(text) for text in texts],
        max_items=_MAX_ITEMS,
        ask=lambda some: pb2.ClassifyTextRequest(model=model, texts=some, candidate_labels=labels),
        kind=TextLabels,
        parse=lambda item: {
            "labels": tuple(LabelScore(one.label, one.score, one.similarity) for one in item.labels),
            "truncated": item.truncated,
            "reliable": item.language_support != pb2.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT,
        },
    )


def _check(texts: Sequence[str]) -> Sequence[str]:
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{at}]: expected a str, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"texts[{at}]: expected Unicode text, got a lone surrogate at {error.start}"
            ) from error
    return texts
