"""DetectObjects: validate, decode and squeeze on a thread, one run in a batch, suppression and mapping back."""

from dataclasses import dataclass

from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.limits import ImageBounds
from services.vision.pipeline import objects
from services.vision.pipeline.classification import read_labels
from services.vision.pipeline.objects import FoundObject, SquareConstants
from services.vision.rpc.artifact_check import require_outputs
from services.vision.rpc.item import answer_each
from services.vision.rpc.preparation import Preparation
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


@dataclass(frozen=True)
class Detector:
    """What the call needs of a model: its constants, its labels, and the way of a picture to its input."""

    constants: SquareConstants
    labels: tuple[str, ...]
    preparation: Preparation


def read_detector(artifact: Artifact) -> Detector:
    """Out of an artifact. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "detections")
    labels = read_labels(artifact.asset("labels").read_text("utf-8"))
    constants = SquareConstants.model_validate(artifact.constants)
    side = constants.image_size
    preparation = Preparation(
        lambda width, height: (side, side), lambda image, field: objects.prepare(image, constants)
    )
    return Detector(constants, labels, preparation)


class DetectObjects:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ImageBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact(
            {objects.PREPROCESSING: read_detector}, rpc="DetectObjects", repository=repository
        )

    async def answer(self, request: pb.DetectObjectsRequest) -> pb.DetectObjectsResponse:
        """The reply; raises what ends the whole call."""
        options = validation.check_detect(request, self._bounds)
        model = self._repository.model(request.model, "DetectObjects")
        detector = await self._made.get(model)
        deadline = current_deadline()
        watch = Stopwatch()

        async def answer_one(content: bytes, field: str) -> pb.DetectObjectsResult:
            item = watch.item()
            with item.preprocessing():
                validation.check_content(content, field, self._bounds)
                ready = await run_in_executor(
                    detector.preparation.read, content, field, self._bounds.max_pixels
                )
            answer = await model.infer({"image": ready.image}, deadline=deadline)
            item.add(answer)
            with item.postprocessing():
                found = objects.pick(
                    answer.outputs["detections"][0],
                    detector.labels,
                    detector.constants,
                    width=ready.width,
                    height=ready.height,
                    min_score=options.min_score,
                    max_results=options.max_results,
                )
                return pb.DetectObjectsResult(objects=[to_message(one) for one in found])

        def refuse(status: status_pb2.Status) -> pb.DetectObjectsResult:
            return pb.DetectObjectsResult(status=status)

        results = await answer_each(request.images, answer_one, refuse)
        return pb.DetectObjectsResponse(results=results, model=model.ref(), timing=watch.to_timing())


def to_message(found: FoundObject) -> pb.DetectedObject:
    """An object as the reply shows it."""
    x_min, y_min, x_max, y_max = found.box
    return pb.DetectedObject(
        label=found.label,
        index=found.index,
        score=found.score,
        box=pb.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max),
    )
