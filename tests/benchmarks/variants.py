"""Inputs for every shipped graph, made of its golden ones: real photographs, lines, clips and texts, cut, moved and dimmed.

Also what a caller gets told of a graph's outputs: the decision that must not depend on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from shared.inference.datatypes import Array

__all__ = ["VARIANTS", "decide"]

# Above these, a pixel is text or a face, a chunk is speech, a box is an object: the pipelines' own thresholds.
_THRESHOLDS = {"heatmap": 0.5, "probability": 0.3}
_SCORE, _CLASS = 4, 5  # columns of a detection


def decide(outputs: Mapping[str, Array]) -> tuple[object, ...]:
    """Label, boxes, text or tokens, as far as a graph's outputs say one."""
    told: list[object] = []
    for name, array in sorted(outputs.items()):
        if name in ("logits", "probabilities"):
            told.append(array.argmax(axis=-1).tolist())
        elif name == "indices":
            told.append(array.tolist())
        elif name == "detections":
            told.append([[int(box[_CLASS]) for box in row if box[_SCORE] >= 0.3] for row in array])
        elif name in _THRESHOLDS:
            told.append((array > _THRESHOLDS[name]).tobytes())
    return tuple(told)


def vary_texts(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """The words of the golden texts in another order, 4 to 40 of them, in one row or two."""
    words = golden["input_ids"][golden["attention_mask"] == 1]
    ids = rng.choice(words, (int(rng.integers(1, 3)), int(rng.integers(4, 41))))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def vary_clips(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """A part of a golden clip, of any length from 0.2 s, at another volume."""
    audio = golden["audio"]
    length = int(rng.integers(3200, audio.shape[1] + 1))
    start = int(rng.integers(0, audio.shape[1] - length + 1))
    row = int(rng.integers(len(audio)))
    return {"audio": audio[row : row + 1, start : start + length] * np.float32(rng.uniform(0.3, 1))}


def vary_windows(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """One to three golden clips, beginning elsewhere."""
    audio = golden["audio"][rng.integers(0, 2, int(rng.integers(1, 4)))]
    return {"audio": np.roll(audio, int(rng.integers(audio.shape[1])), axis=1)}


def vary_pictures(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """A golden picture, moved sideways and dimmed."""
    image = golden["image"]
    row = int(rng.integers(len(image)))
    moved = np.roll(image[row : row + 1], int(rng.integers(image.shape[3])), axis=3)
    return {"image": moved * np.float32(rng.uniform(0.6, 1))}


def vary_faces(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Golden faces side by side, in one of three sizes."""
    image = vary_pictures(golden, rng)["image"]
    return {"image": np.tile(image, (1, 1, 1, int(rng.integers(1, 4))))}


def vary_lines(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """The beginning of a golden line, in one of four widths."""
    image = vary_pictures(golden, rng)["image"]
    return {"image": image[..., : int(rng.integers(1, 5)) * 80]}


def vary_speech(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Most of a golden clip, at another volume."""
    length = int(rng.integers(3200, golden["input_values"].shape[1] + 1))
    return {
        "input_values": golden["input_values"][:, :length] * np.float32(rng.uniform(0.5, 1)),
        "attention_mask": golden["attention_mask"][:, :length],
    }


def vary_tokens(golden: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """A first step of decoding, of something else heard."""
    heard = golden["encoder_hidden_states"] * np.float32(rng.uniform(0.7, 1.2))
    return {**golden, "encoder_hidden_states": heard}


# Graph -> how to vary it, and its share of the groupings: the cheaper a run is, the more there are of it.
VARIANTS: dict[tuple[str, str, str], tuple[Callable[..., dict[str, Array]], int]] = {
    ("nlp", "minilm", "model"): (vary_texts, 340),
    ("speech", "silero-vad", "model"): (vary_clips, 250),
    ("speech", "resemblyzer", "model"): (vary_windows, 80),
    ("speech", "moonshine-tiny-en", "encode"): (vary_speech, 30),
    ("speech", "moonshine-tiny-en", "decode"): (vary_tokens, 30),
    ("vision", "pp-ocr", "orient"): (vary_pictures, 120),
    ("vision", "pp-ocr", "recognize"): (vary_lines, 60),
    ("vision", "pp-ocr", "detect"): (vary_pictures, 10),
    ("vision", "centerface", "model"): (vary_faces, 60),
    ("vision", "efficientnet-lite0", "model"): (vary_pictures, 15),
    ("vision", "centernet", "model"): (vary_pictures, 5),
}
