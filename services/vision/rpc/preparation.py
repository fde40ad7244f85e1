"""From the bytes of one item to the input of a model, as the model's artifact wants it.

Lives here: which pipeline an artifact's constants go to, and what is said of a picture that it cannot use. Not here: the
pipelines themselves, decoding.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from services.vision.decode import decode
from services.vision.pipeline import classification, digit
from services.vision.pipeline.classification import CropConstants
from services.vision.pipeline.digit import BlankError
from services.vision.pipeline.tensor import Floats
from shared.errors import InvalidArgument
from shared.inference.artifact import Artifact


@dataclass(frozen=True)
class Prepared:
    """A graph's input, and the size in pixels of the upright picture that it was made of."""

    image: Floats
    width: int
    height: int


@dataclass(frozen=True)
class Preparation:
    """The way of a picture to a graph's input `image`, one row.

    `fit` tells, for an image's size, the size it is shrunk to, so that a JPEG may be decoded at a fraction. `prepare`
    takes an upright RGB image and its name in the request, and raises InvalidArgument where it shows nothing to work on.
    """

    fit: Callable[[int, int], tuple[int, int]]
    prepare: Callable[[Image.Image, str], Floats]

    def read(self, content: bytes, field: str, max_pixels: int) -> Prepared:
        """Encoded bytes to the graph's input; for a thread. Raises InvalidArgument."""
        picture = decode(content, field=field, max_pixels=max_pixels, fit=self.fit)
        return Prepared(self.prepare(picture.image, field), picture.width, picture.height)


def read_photo_preparation(artifact: Artifact) -> Preparation:
    """The crop of the middle, by the artifact's constants. Raises ValueError where they do not say what they should."""
    constants = CropConstants.model_validate(artifact.constants)
    return Preparation(
        lambda width, height: classification.fit(width, height, constants),
        lambda image, _field: classification.prepare(image, constants),
    )


def prepare_digit(image: Image.Image, field: str) -> Floats:
    """One digit as MNIST shows it. Raises InvalidArgument for a picture without ink."""
    try:
        return digit.prepare(image)
    except BlankError as blank:
        raise InvalidArgument(
            field, expected="a picture of one digit", got=str(blank), fix="send one with more contrast"
        ) from blank


DIGIT_PREPARATION = Preparation(digit.fit, prepare_digit)
