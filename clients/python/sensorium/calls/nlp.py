"""Calls about texts."""

from collections.abc import Sequence

from sensorium.calls.listing import listing
from sensorium.calls.plan import Plan, Rpc
from sensorium.nlp.v1 import nlp_service_pb2 as pb2
from sensorium.results import (
    LabelScore,
    Language,
    TextAttribution,
    TextEmbedding,
    TextExplanation,
    TextLabels,
    TextLanguages,
)

_SERVICE = "/sensorium.nlp.v1.NlpService"
_EMBED = Rpc(f"{_SERVICE}/EmbedText", pb2.EmbedTextRequest, pb2.EmbedTextResponse)
_CLASSIFY = Rpc(f"{_SERVICE}/ClassifyText", pb2.ClassifyTextRequest, pb2.ClassifyTextResponse)

_DETECT = Rpc(f"{_SERVICE}/DetectLanguage", pb2.DetectLanguageRequest, pb2.DetectLanguageResponse)
_EXPLAIN = Rpc(f"{_SERVICE}/ExplainText", pb2.ExplainTextRequest, pb2.ExplainTextResponse)

# Below the service's default; more calls of fewer texts also spread over replicas.
_MAX_ITEMS = 32
# A call explains its texts one after the other: with one in each, several replicas work on a list.
_MAX_EXPLAINED = 1


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


def classify_text(
    texts: Sequence[str], labels: Sequence[str] | None, *, model: str
) -> Plan[list[TextLabels]]:
    """See `Client.classify_text`."""
    candidates = _check_labels(labels)
    return listing(
        _CLASSIFY,
        _check(texts),
        sizes=[len(text) for text in texts],
        max_items=_MAX_ITEMS,
        ask=lambda some: pb2.ClassifyTextRequest(model=model, texts=some, candidate_labels=candidates),
        kind=TextLabels,
        parse=lambda item: {
            "labels": tuple(
                LabelScore(one.label, one.score, one.similarity if one.HasField("similarity") else None)
                for one in item.labels
            ),
            "truncated": item.truncated,
            "reliable": item.language_support != pb2.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT,
        },
    )


def detect_language(texts: Sequence[str], *, model: str, max_results: int) -> Plan[list[TextLanguages]]:
    """See `Client.detect_language`."""
    return listing(
        _DETECT,
        _check(texts),
        sizes=[len(text) for text in texts],
        max_items=_MAX_ITEMS,
        ask=lambda some: pb2.DetectLanguageRequest(model=model, texts=some, max_results=max_results),
        kind=TextLanguages,
        parse=lambda item: {
            "languages": tuple(Language(one.code, one.score) for one in item.languages),
            "truncated": item.truncated,
            "reliable": item.reliable,
        },
    )


def explain_text(
    texts: Sequence[str], labels: Sequence[str] | None, *, label: str, model: str, max_runs: int
) -> Plan[list[TextExplanation]]:
    """See `Client.explain_text`."""
    candidates = _check_labels(labels)
    return listing(
        _EXPLAIN,
        _check(texts),
        sizes=[len(text) for text in texts],
        max_items=_MAX_EXPLAINED,
        ask=lambda some: pb2.ExplainTextRequest(
            model=model, texts=some, candidate_labels=candidates, label=label, max_runs=max_runs
        ),
        kind=TextExplanation,
        parse=lambda item: {
            "label": item.label,
            "score": item.score,
            "base_score": item.base_score,
            "attributions": tuple(
                TextAttribution(one.text, one.begin, one.end, one.attribution) for one in item.attributions
            ),
            "run_count": item.run_count,
            "truncated": item.truncated,
            "reliable": item.language_support != pb2.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT,
        },
    )


def _check_labels(labels: Sequence[str] | None) -> Sequence[str]:
    if isinstance(labels, str):
        raise TypeError("labels: expected a list of labels, got one text")
    return labels or ()


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
