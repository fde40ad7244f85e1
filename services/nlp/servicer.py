"""NlpService: each method hands its request to the rpc's own module. Errors become statuses in shared/rpc.

A text that cannot be answered fails alone, in its result's status; every other error ends the call.
"""

from typing import Any

from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc

from services.nlp.choice import Choice
from services.nlp.embedder import Embedder
from services.nlp.limits import Bounds
from services.nlp.reader import WORDPIECE
from services.nlp.rpc.classify_text import ClassifyText
from services.nlp.rpc.detect_language import DetectLanguage
from services.nlp.rpc.embed_text import EmbedText
from services.nlp.rpc.explain_text import ExplainText
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository

# grpc.aio's ServicerContext or the native front's; no method looks at it.
Context = Any


class NlpServicer(pb_grpc.NlpServiceServicer):
    """All rpcs of the language service over one repository of models."""

    def __init__(self, repository: Repository, bounds: Bounds) -> None:
        embedders = PerArtifact({WORDPIECE: Embedder}, rpc="EmbedText", repository=repository)
        choice = Choice(repository, embedders, cached_labels=bounds.cached_labels)
        self._embed_text = EmbedText(repository, embedders, bounds)
        self._classify_text = ClassifyText(choice, bounds)
        self._detect_language = DetectLanguage(repository, bounds)
        self._explain_text = ExplainText(choice, bounds)

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        """Turns texts into vectors."""
        return await self._embed_text.answer(request)

    async def ClassifyText(
        self, request: pb.ClassifyTextRequest, context: Context
    ) -> pb.ClassifyTextResponse:
        """Finds the label that fits each text best."""
        return await self._classify_text.answer(request)

    async def DetectLanguage(
        self, request: pb.DetectLanguageRequest, context: Context
    ) -> pb.DetectLanguageResponse:
        """Says in which language texts are written."""
        return await self._detect_language.answer(request)

    async def ExplainText(self, request: pb.ExplainTextRequest, context: Context) -> pb.ExplainTextResponse:
        """Says which words speak for a label."""
        return await self._explain_text.answer(request)
