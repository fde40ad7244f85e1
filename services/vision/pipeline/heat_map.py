"""What the cells of a picture speak for, shown over the picture: red for the label, blue against it.

Not here: how the numbers are found (`shared.inference.explanation`).
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The longer side, in pixels.
SIDE = 512
# How much of the grey picture shows through where the colour is strongest, and how pale it is elsewhere.
_STRONGEST, _PALE = 0.75, 0.45
_FOR, _AGAINST = np.array([214, 24, 31], np.float32), np.array([24, 90, 214], np.float32)


def render_heat_map(image: Image.Image, width: int, height: int, attributions: NDArray[np.float64]) -> bytes:
    """A PNG with the proportions of `width` x `height`, whose longer side has `SIDE` pixels.

    `image` is the picture at any size, `attributions` [rows, columns] its cells; the strongest has the full colour.
    """
    scale = SIDE / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC), np.float32)
    paper = 255 - _PALE * (255 - grey)
    strongest = float(np.abs(attributions).max(initial=0.0)) or 1.0
    cells = Image.fromarray((attributions / strongest).astype(np.float32))
    strength = np.clip(np.asarray(cells.resize(size, Image.Resampling.BICUBIC)), -1, 1)[..., None]
    colour = np.where(strength >= 0, _FOR, _AGAINST)
    share = _STRONGEST * np.abs(strength)
    # The picture's own shades stay visible under the colour.
    shaded = colour * (0.5 + 0.5 * paper[..., None] / 255)
    pixels = paper[..., None] * (1 - share) + shaded * share
    out = BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
