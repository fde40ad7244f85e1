"""Images to the float tensors that graphs take, the one place where pixels change their layout.

Lives here: layout and normalisation. Not here: which size and which numbers a model wants (the tasks' modules).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


def to_tensor(
    image: Image.Image, mean: Sequence[float], std: Sequence[float], *, bgr: bool = False
) -> Floats:
    """One RGB image as FP32 [1, 3, height, width]: (0..255 - mean) / std per channel; `bgr` reverses the channels."""
    return normalize(np.asarray(image), mean, std, bgr=bgr)


def normalize(
    pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float], *, bgr: bool = False
) -> Floats:
    """Pixels [height, width, 3], RGB 0..255, as FP32 [1, 3, height, width]; `mean` and `std` are per output channel."""
    height, width = pixels.shape[:2]
    tensor = np.empty((1, 3, height, width), np.float32)
    for channel in range(3):
        plane = tensor[0, channel]
        np.copyto(plane, pixels[:, :, 2 - channel if bgr else channel])
        if mean[channel]:
            plane -= np.float32(mean[channel])
        if std[channel] != 1:
            plane /= np.float32(std[channel])
    return tensor
