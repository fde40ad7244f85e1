"""Calls about texts."""

from collections.abc import Sequence
from typing import overload

from sensorium.calls import nlp
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.methods.runner import Runner
from sensorium.results import TextEmbedding, TextExplanation, TextLabels, TextLanguages


class NlpMethods(Runner):
    """See `sensorium.client.Client`."""

    @overload
    def embed_text(
        self, text: str, *, model: str = ..., timeout_s: float | None = ..., priority: Priority | None = ...
    ) -> TextEmbedding: ...
    @overload
    def embed_text(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextEmbedding]: ...
    def embed_text(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextEmbedding | list[TextEmbedding]:
        """Turns a text into a vector; texts of similar meaning have a high `similarity`."""
        inputs, many = as_list(text)
        plan = nlp.embed_text(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def classify_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLabels: ...
    @overload
    def classify_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLabels]: ...
    def classify_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLabels | list[TextLabels]:
        """Says which label fits a text best: of your `labels` (2 to 64, best as short phrases), or, without any, of those
        that the model was trained on; the default one knows `negative` and `positive`.
        """
        inputs, many = as_list(text)
        plan = nlp.classify_text(inputs, labels, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_language(
        self,
        text: str,
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLanguages: ...
    @overload
    def detect_language(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLanguages]: ...
    def detect_language(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        max_results: int = 3,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLanguages | list[TextLanguages]:
        """Says in which language a text is written: the `max_results` most probable ones."""
        inputs, many = as_list(text)
        plan = nlp.detect_language(inputs, model=model, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def explain_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextExplanation: ...
    @overload
    def explain_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextExplanation]: ...
    def explain_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextExplanation | list[TextExplanation]:
        """Says which words of a text speak for `label` (default: its best one); `labels` and `model` as for `classify_text`.

        The model is run some 128 times, or at most `max_runs` times, behind other calls. Raises DeadlineExceeded at once
        where that cannot be done in time.
        """
        inputs, many = as_list(text)
        plan = nlp.explain_text(inputs, labels, label=label, model=model, max_runs=max_runs)
        return unwrap(self._run(plan, timeout_s, priority), many=many)
