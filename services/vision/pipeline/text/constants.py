"""What a text reading artifact says of its three graphs."""

from pydantic import BaseModel, ConfigDict

PREPROCESSING = "image-bgr-ppocr/1"


class DetectConstants(BaseModel):
    """Of the graph that marks text: sizes in pixels, thresholds as probabilities."""

    model_config = ConfigDict(frozen=True)

    max_side: int
    min_side: int
    threshold: float
    box_threshold: float
    unclip_ratio: float
    max_candidates: int


class OrientConstants(BaseModel):
    """Of the graph that tells lines that stand on their head."""

    model_config = ConfigDict(frozen=True)

    threshold: float


class RecognizeConstants(BaseModel):
    """Of the graph that reads a line; `max_width` in pixels."""

    model_config = ConfigDict(frozen=True)

    max_width: int


class TextConstants(BaseModel):
    """Of all three. `mean` and `std` are of pixels scaled to 0..1, the same for every channel."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float
    text_threshold: float
    detect: DetectConstants
    orient: OrientConstants
    recognize: RecognizeConstants
