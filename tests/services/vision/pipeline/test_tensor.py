"""Layout and normalisation of pixels."""

import numpy as np
from PIL import Image

from services.vision.pipeline.tensor import normalize, to_tensor


def test_channels_come_first_and_are_scaled_each_by_its_own_numbers() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    tensor = normalize(pixels, (1, 2, 3), (1, 2, 4))
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor.dtype == np.float32
    expected = (pixels.astype(np.float32) - (1, 2, 3)) / (1, 2, 4)
    assert np.array_equal(tensor[0].transpose(1, 2, 0), expected)


def test_bgr_reverses_the_channels() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    tensor = to_tensor(image, (0, 0, 0), (1, 1, 1), bgr=True)
    assert tensor[0, :, 0, 0].tolist() == [30, 20, 10]


def test_the_ends_of_the_range() -> None:
    image = Image.new("RGB", (1, 1), (0, 255, 0))
    tensor = to_tensor(image, (127.5,) * 3, (127.5,) * 3)
    assert tensor.ravel().tolist() == [-1, 1, -1]
