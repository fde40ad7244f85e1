"""DetectFaces: validate, decode and resize on a thread, one run, suppression and mapping back on a thread."""

from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.decode import decode
from services.vision.limits import ImageBounds
from services.vision.pipeline import faces
from services.vision.pipeline.faces import FaceConstants, FoundFace
from services.vision.rpc.artifact_check import require_outputs
from services.vision.rpc.item import answer_each
from services.vision.rpc.preparation import Prepared
from shared.inference.artifact import Artifact
from shared.inference.executor import run_in_executor
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline

# In the order in which the model gives them.
LANDMARKS = (
    pb.FaceLandmark.KIND_LEFT_EYE,
    pb.FaceLandmark.KIND_RIGHT_EYE,
    pb.FaceLandmark.KIND_NOSE_TIP,
    pb.FaceLandmark.KIND_MOUTH_LEFT,
    pb.FaceLandmark.KIND_MOUTH_RIGHT,
)


def read_faces(artifact: Artifact) -> FaceConstants:
    """Out of an artifact. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "heatmap", "scale", "offset", "landmarks")
    return FaceConstants.model_validate(artifact.constants)


def prepare(content: bytes, field: str, max_pixels: int, constants: FaceConstants) -> Prepared:
    """Encoded bytes to the model's input; for a thread."""
    picture = decode(
        content,
        field=field,
        max_pixels=max_pixels,
        fit=lambda width, height: faces.fit(width, height, constants),
    )
    size = faces.fit(picture.width, picture.height, constants)
    return Prepared(faces.prepare(picture.image, size, constants), picture.width, picture.height)


class DetectFaces:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ImageBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact({faces.PREPROCESSING: read_faces}, rpc="DetectFaces", repository=repository)

    async def answer(self, request: pb.DetectFacesRequest) -> pb.DetectFacesResponse:
        """The reply; raises what ends the whole call."""
        options = validation.check_detect(request, self._bounds)
        model = self._repository.model(request.model, "DetectFaces")
        constants = await self._made.get(model)
        deadline = current_deadline()
        watch = Stopwatch()

        async def answer_one(content: bytes, field: str) -> pb.DetectFacesResult:
            item = watch.item()
            with item.preprocessing():
                validation.check_content(content, field, self._bounds)
                ready = await run_in_executor(prepare, content, field, self._bounds.max_pixels, constants)
            answer = await model.infer({"image": ready.image}, deadline=deadline)
            item.add(answer)
            maps = answer.outputs
            with item.postprocessing():
                found = faces.pick(
                    maps["heatmap"][0],
                    maps["scale"][0],
                    maps["offset"][0],
                    maps["landmarks"][0],
                    constants,
                    width=ready.width,
                    height=ready.height,
                    min_score=options.min_score,
                    max_results=options.max_results,
                )
                return pb.DetectFacesResult(faces=[to_message(one) for one in found])

        def refuse(status: status_pb2.Status) -> pb.DetectFacesResult:
            return pb.DetectFacesResult(status=status)

        results = await answer_each(request.images, answer_one, refuse)
        return pb.DetectFacesResponse(results=results, model=model.ref(), timing=watch.to_timing())


def to_message(found: FoundFace) -> pb.DetectedFace:
    """A face as the reply shows it."""
    x_min, y_min, x_max, y_max = found.box
    return pb.DetectedFace(
        score=found.score,
        box=pb.BoundingBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max),
        landmarks=[
            pb.FaceLandmark(kind=kind, position=pb.Point(x=x, y=y))
            for kind, (x, y) in zip(LANDMARKS, found.landmarks, strict=True)
        ],
    )
