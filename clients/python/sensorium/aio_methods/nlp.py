"""Calls about texts."""

from collections.abc import Sequence
from typing import overload

from sensorium.aio_methods.runner import AsyncRunner
from sensorium.calls import nlp
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.results import TextEmbedding, TextExplanation, TextLabels, TextLanguages


class AsyncNlpMethods(AsyncRunner):
    """See `sensorium.aio.AsyncClient`."""

    @overload
    async def embed_text(
        self, text: str, *, model: str = ..., timeout_s: float | None = ..., priority: Priority | None = ...
    ) -> TextEmbedding: ...
    @overload
    async def embed_text(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextEmbedding]: ...
    async def embed_text(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextEmbedding | list[TextEmbedding]:
        """See `Client.embed_text`."""
        inputs, many = as_list(text)
        plan = nlp.embed_text(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def classify_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLabels: ...
    @overload
    async def classify_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLabels]: ...
    async def classify_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLabels | list[TextLabels]:
        """See `Client.classify_text`."""
        inputs, many = as_list(text)
        plan = nlp.classify_text(inputs, labels, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_language(
        self,
        text: str,
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLanguages: ...
    @overload
    async def detect_language(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLanguages]: ...
    async def detect_language(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        max_results: int = 3,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLanguages | list[TextLanguages]:
        """See `Client.detect_language`."""
        inputs, many = as_list(text)
        plan = nlp.detect_language(inputs, model=model, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def explain_text(
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
    async def explain_text(
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
    async def explain_text(
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
        """See `Client.explain_text`."""
        inputs, many = as_list(text)
        plan = nlp.explain_text(inputs, labels, label=label, model=model, max_runs=max_runs)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)
