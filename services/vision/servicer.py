"""VisionService: each method hands its request to the rpc's own module. Errors become statuses in shared/rpc."""

from typing import Any

from sensorium.vision.v1 import vision_service_pb2 as pb
from sensorium.vision.v1 import vision_service_pb2_grpc as pb_grpc

from services.vision.limits import Bounds
from services.vision.rpc.classify_image import ClassifyImage
from services.vision.rpc.detect_faces import DetectFaces
from services.vision.rpc.detect_objects import DetectObjects
from services.vision.rpc.embed_image import EmbedImage
from services.vision.rpc.explain_image import ExplainImage
from services.vision.rpc.read_text import ReadText
from shared.inference.repository.repository import Repository

# grpc.aio's ServicerContext or the native front's; no method looks at it.
Context = Any


class VisionServicer(pb_grpc.VisionServiceServicer):
    """All rpcs of the vision service over one repository of models."""

    def __init__(self, repository: Repository, bounds: Bounds) -> None:
        self._classify_image = ClassifyImage(repository, bounds.classify_image)
        self._detect_objects = DetectObjects(repository, bounds.detect_objects)
        self._detect_faces = DetectFaces(repository, bounds.detect_faces)
        self._read_text = ReadText(repository, bounds.read_text)
        self._embed_image = EmbedImage(repository, bounds.embed_image)
        self._explain_image = ExplainImage(repository, bounds.explain_image)

    async def ClassifyImage(
        self, request: pb.ClassifyImageRequest, context: Context
    ) -> pb.ClassifyImageResponse:
        """Names what images show."""
        return await self._classify_image.answer(request)

    async def DetectObjects(
        self, request: pb.DetectObjectsRequest, context: Context
    ) -> pb.DetectObjectsResponse:
        """Finds objects in images."""
        return await self._detect_objects.answer(request)

    async def DetectFaces(self, request: pb.DetectFacesRequest, context: Context) -> pb.DetectFacesResponse:
        """Finds faces in images."""
        return await self._detect_faces.answer(request)

    async def ReadText(self, request: pb.ReadTextRequest, context: Context) -> pb.ReadTextResponse:
        """Reads the text in images."""
        return await self._read_text.answer(request)

    async def EmbedImage(self, request: pb.EmbedImageRequest, context: Context) -> pb.EmbedImageResponse:
        """Turns images into vectors."""
        return await self._embed_image.answer(request)

    async def ExplainImage(
        self, request: pb.ExplainImageRequest, context: Context
    ) -> pb.ExplainImageResponse:
        """Says which parts of images speak for a label."""
        return await self._explain_image.answer(request)
