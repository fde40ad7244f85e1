"""Plots are small PNG files that come out the same every time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shared.training.compression.pareto import Point, draw_pareto
from shared.training.evaluation.calibration import reliability
from shared.training.evaluation.plot import LARGEST_BYTES, draw_confusion, draw_reliability


def draw(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    if kind == "reliability":
        scores = rng.dirichlet(np.ones(3), 500)
        return draw_reliability(reliability(rng.integers(0, 3, 500), scores), title="t", error=0.1)
    if kind == "pareto":
        points = [Point(f"form {n}", 0.8 + n / 50, 0.79, 0.95, 1e-3 * n, 10_000 * n) for n in range(1, 6)]
        return draw_pareto(points, title="t")
    labels = [f"label {index}" for index in range(5 if kind == "few" else 60)]
    return draw_confusion(rng.integers(0, 9, (len(labels), len(labels))), labels, title="t")


@pytest.mark.parametrize("kind", ["reliability", "pareto", "few", "many"])
def test_it_is_small_and_the_same_every_time(kind: str) -> None:
    first = draw(kind)
    assert first == draw(kind)
    assert len(first) <= LARGEST_BYTES
    picture = Image.open(io.BytesIO(first))
    assert picture.format == "PNG"
    assert min(picture.size) >= 200
    assert b"matplotlib" not in first.lower()
