"""EmbedImage: as ClassifyImage up to the model, whose pooled features are scaled to length 1."""

from google.rpc import status_pb2
from sensorium.types.v1 import embedding_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.limits import ImageBounds
from services.vision.pipeline import classification
from services.vision.rpc.artifact_check import require_outputs
from services.vision.rpc.item import answer_each
from services.vision.rpc.preparation import Preparation, read_photo_preparation
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


def read_embedder(artifact: Artifact) -> Preparation:
    """Out of an artifact. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "embedding")
    return read_photo_preparation(artifact)


class EmbedImage:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ImageBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact(
            {classification.PREPROCESSING: read_embedder}, rpc="EmbedImage", repository=repository
        )

    async def answer(self, request: pb.EmbedImageRequest) -> pb.EmbedImageResponse:
        """The reply; raises what ends the whole call."""
        validation.check_embed(request, self._bounds)
        model = self._repository.model(request.model, "EmbedImage")
        preparation = await self._made.get(model)
        deadline = current_deadline()
        watch = Stopwatch()

        async def answer_one(content: bytes, field: str) -> pb.EmbedImageResult:
            item = watch.item()
            with item.preprocessing():
                validation.check_content(content, field, self._bounds)
                ready = await run_in_executor(preparation.read, content, field, self._bounds.max_pixels)
            answer = await model.infer({"image": ready.image}, outputs=("embedding",), deadline=deadline)
            item.add(answer)
            with item.postprocessing():
                vector = classification.unit(answer.outputs["embedding"][0])
                return pb.EmbedImageResult(embedding=embedding_pb2.Embedding(values=vector.tolist()))

        def refuse(status: status_pb2.Status) -> pb.EmbedImageResult:
            return pb.EmbedImageResult(status=status)

        results = await answer_each(request.images, answer_one, refuse)
        return pb.EmbedImageResponse(results=results, model=model.ref(), timing=watch.to_timing())
