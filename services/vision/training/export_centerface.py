"""Makes centerface.golden.npz out of the untouched published ONNX file, and proves that its axes may vary.

    .venv-training/bin/python -m services.vision.training.export_centerface CENTERFACE.onnx PHOTO.png

The published file accepts only ten pictures of 32 x 32, so that is what it is given: ten cuttings around the
face of the photograph, of which two are kept. For other sizes the recipe's graph is compared with the published
one in ONNX's own reference evaluator, which does not enforce the declared shape; the largest differences are
printed.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from PIL import Image

from services.vision.models.centerface import INPUTS, MODEL, OUTPUTS, build, to_input

MODELS = Path(__file__).parents[1] / "models"
# Centre x, y and side of the ten cuttings, in the photograph's pixels: around the face, from close to far.
# The first scores above the threshold (0.5), the last is no face: these are kept.
CUTTINGS = (
    (213, 126, 106), (237, 134, 105), (238, 127, 107), (214, 130, 91), (236, 129, 119),
    (232, 127, 124), (218, 132, 127), (224, 115, 160), (224, 115, 220), (224, 140, 300),
)  # fmt: skip


def cut_faces(photo: Image.Image) -> NDArray[np.uint8]:
    """The ten pictures [10, 32, 32, 3]."""
    boxes = [
        (max(x - side / 2, 0), max(y - side / 2, 0), x + side / 2, y + side / 2) for x, y, side in CUTTINGS
    ]
    return np.stack([np.asarray(photo.resize((32, 32), Image.Resampling.BICUBIC, box)) for box in boxes])


class BatchNormalization(OpRun):
    """The inference rule of the operator; onnx 1.23 evaluates version 9 of it by the training rule."""

    op_domain = ""

    def _run(
        self,
        x: NDArray[np.float32],
        scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        mean: NDArray[np.float32],
        variance: NDArray[np.float32],
        epsilon: float = 1e-5,
        **_training: object,
    ) -> tuple[NDArray[np.float32]]:
        scale, bias, mean, variance = (item.reshape(-1, 1, 1) for item in (scale, bias, mean, variance))
        return ((x - mean) / np.sqrt(variance + np.float32(epsilon)) * scale + bias,)


def main() -> None:
    """Read the arguments, write the golden file beside the recipe, print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the package's centerface.onnx")
    parser.add_argument("photo", type=Path, help="the photograph, 512 x 512, with a face at CUTTINGS")
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)  # the published file lists its weights as inputs
    content, photo = arguments.model.read_bytes(), Image.open(arguments.photo).convert("RGB")
    names = [port.name for port in OUTPUTS.values()]
    published = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = cut_faces(photo)
    answers = published.run(list(OUTPUTS), {next(iter(INPUTS)): to_input(image)})
    kept = {name: answer[[0, -1]] for name, answer in zip(names, answers, strict=True)}
    np.savez_compressed(MODELS / "centerface.golden.npz", image=image[[0, -1]], **kept)
    ours = onnxruntime.InferenceSession(
        build({MODEL: content}).graphs["model"].content, providers=["CPUExecutionProvider"]
    )
    reference = ReferenceEvaluator(content, new_ops=[BatchNormalization])
    for shape in ((1, 96, 64), (2, 32, 128)):
        width, height = shape[2], shape[1]
        pixels = np.asarray(photo.resize((width, height)), dtype=np.uint8)[None].repeat(shape[0], axis=0)
        expected = reference.run(list(OUTPUTS), {next(iter(INPUTS)): to_input(pixels)})
        got = ours.run(names, {"image": to_input(pixels)})
        worst = max(float(np.abs(a - b).max()) for a, b in zip(expected, got, strict=True))
        print(f"{shape}: largest difference {worst:.2e}")


if __name__ == "__main__":
    main()
