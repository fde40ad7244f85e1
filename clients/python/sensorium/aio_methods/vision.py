"""Calls about images."""

from typing import TypeVar, overload

from sensorium.aio_methods.runner import AsyncRunner
from sensorium.calls import vision
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.inputs import Image
from sensorium.results import (
    ImageEmbedding,
    ImageExplanation,
    ImageFaces,
    ImageLabels,
    ImageObjects,
    ImageText,
)

ImageT = TypeVar("ImageT", bound=Image)


class AsyncVisionMethods(AsyncRunner):
    """See `sensorium.aio.AsyncClient`."""

    @overload
    async def classify_image(
        self,
        image: Image,
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageLabels: ...
    @overload
    async def classify_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageLabels]: ...
    async def classify_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        top_k: int = 5,
        min_score: float = 0.0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageLabels | list[ImageLabels]:
        """See `Client.classify_image`."""
        inputs, many = as_list(image)
        plan = vision.classify_image(inputs, model=model, top_k=top_k, min_score=min_score)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_objects(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageObjects: ...
    @overload
    async def detect_objects(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageObjects]: ...
    async def detect_objects(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageObjects | list[ImageObjects]:
        """See `Client.detect_objects`."""
        inputs, many = as_list(image)
        plan = vision.detect_objects(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_faces(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageFaces: ...
    @overload
    async def detect_faces(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageFaces]: ...
    async def detect_faces(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageFaces | list[ImageFaces]:
        """See `Client.detect_faces`."""
        inputs, many = as_list(image)
        plan = vision.detect_faces(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def read_text(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageText: ...
    @overload
    async def read_text(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageText]: ...
    async def read_text(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageText | list[ImageText]:
        """See `Client.read_text`."""
        inputs, many = as_list(image)
        plan = vision.read_text(inputs, model=model, min_score=min_score)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def embed_image(
        self,
        image: Image,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageEmbedding: ...
    @overload
    async def embed_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageEmbedding]: ...
    async def embed_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageEmbedding | list[ImageEmbedding]:
        """See `Client.embed_image`."""
        inputs, many = as_list(image)
        plan = vision.embed_image(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def explain_image(
        self,
        image: Image,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageExplanation: ...
    @overload
    async def explain_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageExplanation]: ...
    async def explain_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageExplanation | list[ImageExplanation]:
        """See `Client.explain_image`."""
        inputs, many = as_list(image)
        plan = vision.explain_image(inputs, label=label, model=model, max_runs=max_runs)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)
