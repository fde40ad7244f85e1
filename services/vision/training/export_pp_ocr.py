"""Makes pp_ocr.golden.npz out of the three untouched published ONNX files and lines of text that it prints itself.

    .venv-training/bin/python -m services.vision.training.export_pp_ocr FOLDER

FOLDER holds the package's three .onnx files. Needs pillow's own font only.
"""

import argparse
from pathlib import Path, PurePosixPath

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.vision.models.pp_ocr import (
    DETECT,
    DETECT_OUTPUT,
    LINE_HEIGHT,
    ORIENT,
    ORIENT_OUTPUT,
    RECOGNIZE,
    RECOGNIZE_OUTPUT,
    to_input,
)

MODELS = Path(__file__).parents[1] / "models"
# Text and its size: at these sizes the best class of every step leads by .5 or more, so that no other
# processor's rounding decides differently.
LINES = (("Sensorium 2026", 26), ("vision, language, speech", 24))


def print_text(text: str, width: int, height: int, size: int) -> NDArray[np.uint8]:
    """Black letters on white, [height, width, 3]."""
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    draw.multiline_text((8, height / 2), text, "black", ImageFont.load_default(size), anchor="lm", spacing=12)
    return np.asarray(page, dtype=np.uint8)


def run(folder: Path, member: str, output: str, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One output of a published file for a batch of BGR pictures [n, h, w, 3]."""
    path = folder / PurePosixPath(member).name
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run([output], {"x": to_input(image)})[0]
    return answer


def main() -> None:
    """Read the argument, write the golden file beside the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the package's models folder")
    folder = parser.parse_args().folder
    page = print_text("\n".join(text for text, _size in LINES), 320, 128, 26)[None]
    upright = print_text(LINES[0][0], 192, LINE_HEIGHT, 24)
    both = np.stack([upright, upright[::-1, ::-1]])
    lines = np.stack([print_text(text, 320, LINE_HEIGHT, size) for text, size in LINES])
    probabilities = run(folder, RECOGNIZE, RECOGNIZE_OUTPUT, lines)
    np.savez_compressed(
        MODELS / "pp_ocr.golden.npz",
        **{
            "detect/in/image": page,
            "detect/out/probability": run(folder, DETECT, DETECT_OUTPUT, page),
            "orient/in/image": both,
            "orient/out/probabilities": run(folder, ORIENT, ORIENT_OUTPUT, both),
            "recognize/in/image": lines,
            "recognize/out/indices": probabilities.argmax(axis=2).astype(np.int64),
            "recognize/out/scores": probabilities.max(axis=2),
        },
    )


if __name__ == "__main__":
    main()
