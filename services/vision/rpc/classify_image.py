"""ClassifyImage: validate, decode and prepare on a thread as the model wants it, one run in a batch, softmax."""

from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.limits import ImageBounds
from services.vision.pipeline import classification
from services.vision.rpc.classifier import CLASSIFIERS
from services.vision.rpc.item import answer_each
from shared.inference.executor import run_in_executor
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


class ClassifyImage:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ImageBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact(CLASSIFIERS, rpc="ClassifyImage", repository=repository)

    async def answer(self, request: pb.ClassifyImageRequest) -> pb.ClassifyImageResponse:
        """The reply; raises what ends the whole call."""
        options = validation.check_classify(request, self._bounds)
        model = self._repository.model(request.model, "ClassifyImage")
        classifier = await self._made.get(model)
        deadline = current_deadline()
        watch = Stopwatch()

        async def answer_one(content: bytes, field: str) -> pb.ClassifyImageResult:
            item = watch.item()
            with item.preprocessing():
                validation.check_content(content, field, self._bounds)
                ready = await run_in_executor(
                    classifier.preparation.read, content, field, self._bounds.max_pixels
                )
            answer = await model.infer({"image": ready.image}, outputs=("logits",), deadline=deadline)
            item.add(answer)
            with item.postprocessing():
                found = classification.best(
                    answer.outputs["logits"][0],
                    classifier.labels,
                    top_k=options.top_k,
                    min_score=options.min_score,
                )
                return pb.ClassifyImageResult(
                    classifications=[
                        pb.Classification(label=one.label, index=one.index, score=one.score) for one in found
                    ]
                )

        def refuse(status: status_pb2.Status) -> pb.ClassifyImageResult:
            return pb.ClassifyImageResult(status=status)

        results = await answer_each(request.images, answer_one, refuse)
        return pb.ClassifyImageResponse(results=results, model=model.ref(), timing=watch.to_timing())
