"""Calls about images."""

from typing import TypeVar, overload

from sensorium.calls import vision
from sensorium.calls.plan import as_list, unwrap
from sensorium.connection import Priority
from sensorium.inputs import Image
from sensorium.methods.runner import Runner
from sensorium.results import (
    ImageEmbedding,
    ImageExplanation,
    ImageFaces,
    ImageLabels,
    ImageObjects,
    ImageText,
)

ImageT = TypeVar("ImageT", bound=Image)


class VisionMethods(Runner):
    """See `sensorium.client.Client`."""

    @overload
    def classify_image(
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
    def classify_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageLabels]: ...
    def classify_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        top_k: int = 5,
        min_score: float = 0.0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageLabels | list[ImageLabels]:
        """Names what an image shows: the `top_k` best labels of probability `min_score` or more."""
        inputs, many = as_list(image)
        plan = vision.classify_image(inputs, model=model, top_k=top_k, min_score=min_score)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_objects(
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
    def detect_objects(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageObjects]: ...
    def detect_objects(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageObjects | list[ImageObjects]:
        """Finds objects and says where they are. min_score: None means the model's own threshold."""
        inputs, many = as_list(image)
        plan = vision.detect_objects(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_faces(
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
    def detect_faces(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageFaces]: ...
    def detect_faces(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageFaces | list[ImageFaces]:
        """Finds faces and five landmarks of each; it identifies nobody."""
        inputs, many = as_list(image)
        plan = vision.detect_faces(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def read_text(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageText: ...
    @overload
    def read_text(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageText]: ...
    def read_text(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageText | list[ImageText]:
        """Reads printed text, line by line."""
        inputs, many = as_list(image)
        plan = vision.read_text(inputs, model=model, min_score=min_score)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def embed_image(
        self,
        image: Image,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageEmbedding: ...
    @overload
    def embed_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageEmbedding]: ...
    def embed_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageEmbedding | list[ImageEmbedding]:
        """Turns an image into a vector; similar images have a high `similarity`."""
        inputs, many = as_list(image)
        plan = vision.embed_image(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def explain_image(
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
    def explain_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageExplanation]: ...
    def explain_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageExplanation | list[ImageExplanation]:
        """Says which parts of an image speak for `label` (default: its best one), for a `model` of `classify_image`.

        The model is run some 128 times, or at most `max_runs` times, behind other calls. Raises DeadlineExceeded at once
        where that cannot be done in time.
        """
        inputs, many = as_list(image)
        plan = vision.explain_image(inputs, label=label, model=model, max_runs=max_runs)
        return unwrap(self._run(plan, timeout_s, priority), many=many)
