"""Recognisers of three tones, in the form of the trained models: energy at three frequencies, by two products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from services.speech.command_recognizer import PREPROCESSING
from services.speech.pipeline.command import place
from shared.inference.artifact import Artifact, Draft, Tensor, write_artifact
from tests.services.speech.sound import tone
from tests.shared.inference.graphs import draft_graph

LENGTH = 4_000
LEVEL = 0.1
RATE_HZ = 8_000
# The last one is in no language.
TONES = {"en:1": 400.0, "it:1": 900.0, "music": 2_000.0}


def write_tones(models_dir: Path, name: str, **constants: Any) -> Artifact:
    """Write the artifact; `constants` go beside or over the usual ones."""
    time = np.arange(LENGTH) / RATE_HZ
    angles = 2 * np.pi * np.array(list(TONES.values()))[None] * time[:, None]
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32) / 40
    pairs = np.tile(np.eye(len(TONES), dtype=np.float32), (2, 1))
    audio = np.stack([place(tone(0.5, RATE_HZ, hz=hz), LENGTH, LEVEL) for hz in TONES.values()])
    draft = Draft(
        graphs={
            "model": draft_graph(
                [
                    helper.make_node("MatMul", ["audio", "waves"], ["parts"]),
                    helper.make_node("Mul", ["parts", "parts"], ["powers"]),
                    helper.make_node("MatMul", ["powers", "pairs"], ["logits"]),
                ],
                [Tensor("audio", "FP32", (-1, LENGTH))],
                [Tensor("logits", "FP32", (-1, len(TONES)))],
                {"waves": waves, "pairs": pairs},
                max_batch_size=2,
            )
        },
        constants={
            "labels": list(TONES),
            "sample_rate": RATE_HZ,
            "samples": LENGTH,
            "level": LEVEL,
            "max_audio_s": 5.0,
            **constants,
        },
        preprocessing=PREPROCESSING,
        golden={"model/in/audio": audio, "model/out/logits": np.square(audio @ waves) @ pairs},
        golden_made_by="numpy",
        tolerance={"CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3}},
    )
    entry = {
        "name": name,
        "service": "speech",
        "version": "1",
        "task": "RecognizeCommand",
        "license": "MIT",
        "description": "Three tones.",
    }
    return write_artifact(models_dir, entry, draft)
