"""Explanations are true of real models: what came out on top matters more than chance, on real inputs, input by input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from tests.quality.explain import SUBJECTS, measure_drops, read_digits, read_news
from tests.quality.place import Place


@pytest.mark.parametrize(("model", "read", "count"), [("minilm", read_news, 12), ("digits", read_digits, 16)])
def test_taking_away_what_speaks_for_it_costs_more_than_chance(
    model: str, read: Callable[[Place], list[Any]], count: int, datasets: Path, tmp_path: Path
) -> None:
    (subject,) = (one for one in SUBJECTS if one.name == model)
    inputs = read(Place(datasets, tmp_path))
    drops = np.array(asyncio.run(measure_drops(subject, inputs, 64, 5, count)))
    top, chance = drops[:, 0], drops[:, 1]
    assert len(drops) == count
    assert top.mean() > 2 * chance.mean()
    assert wilcoxon(top, chance, alternative="greater").pvalue < 0.01
