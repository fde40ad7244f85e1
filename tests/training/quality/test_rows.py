"""Rows say what was measured and judge by whole intervals; kept runs are not run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.training.evaluation.interval import Interval
from shared.training.evaluation.paired import compare
from tests.benchmarks.report import Holds, Row
from tests.quality.place import Place
from tests.quality.quality import TOPICS, check_name
from tests.quality.rows import against, exact, not_measured, rate, seeds


@pytest.mark.parametrize(
    ("low", "high", "bounds", "holds"),
    [
        (0.84, 0.86, {"at_least": 0.84}, True),
        (0.83, 0.86, {"at_least": 0.84}, "undecided"),
        (0.80, 0.83, {"at_least": 0.84}, False),
        (0.1, 0.2, {"at_most": 0.2}, True),
        (0.1, 0.3, {"at_most": 0.2}, "undecided"),
        (0.25, 0.3, {"at_most": 0.2}, False),
        (0.1, 0.3, {}, "no bar"),
    ],
)
def test_a_bar_holds_where_the_whole_interval_clears_it(
    low: float, high: float, bounds: dict[str, Any], holds: Holds
) -> None:
    row = rate("t/x", Interval((low + high) / 2, low, high), "accuracy", "how", **bounds)
    assert row.holds == holds
    assert (row.low, row.high) == (low, high)


def test_seeds_give_their_mean_and_their_worst_and_are_all_told() -> None:
    mean, worst = seeds("t/accuracy", [0.85, 0.86, 0.84, 0.87, 0.83], "accuracy", "how", at_least=0.8)
    assert mean.value == pytest.approx(0.85)
    assert mean.holds is True
    assert (worst.name, worst.value, worst.holds) == ("t/accuracy/worst", 0.83, "no bar")
    assert "0.8500, 0.8600, 0.8400, 0.8700, 0.8300" in mean.how


def test_the_worst_of_what_should_be_small_is_the_largest() -> None:
    _, worst = seeds("t/error", [0.1, 0.3], "", "how", at_most=1.0)
    assert worst.value == 0.3


def test_few_held_out_items_widen_the_interval() -> None:
    values = [0.85, 0.86, 0.84, 0.87, 0.83]
    alone, _ = seeds("t/x", values, "accuracy", "how", at_least=0.82)
    few, _ = seeds("t/x", values, "accuracy", "how", items=100, at_least=0.82)
    assert alone.holds is True
    assert few.holds == "undecided"


def test_a_paired_row_holds_where_the_model_is_not_worse() -> None:
    rng = np.random.default_rng(0)
    rival = rng.random(500) < 0.7
    better = rival | (rng.random(500) < 0.3)
    assert against("t/rival", compare(better, rival), "how").holds is True
    assert against("t/rival", compare(rival, better), "how").holds is False
    assert "McNemar exact p" in against("t/rival", compare(rival, rival), "how").how


def test_what_was_not_measured_says_so() -> None:
    row = not_measured("t/gpu", "s", "<= 1", "no GPU here")
    assert (row.value, row.holds, row.how) == (None, "not measured", "no GPU here")


def test_every_row_bears_its_topics_name() -> None:
    assert check_name("digits", exact("digits/x", 1.0, "", "")).name == "digits/x"
    with pytest.raises(ValueError, match="expected a name that begins with 'digits/'"):
        check_name("digits", Row("digit/x", 1, 1, 1, "", "", "no bar", ""))
    assert len(set(TOPICS)) == len(TOPICS)


def test_a_run_is_kept_and_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    calls: list[tuple[int, Path]] = []

    def run_once(seed: int, data: Path, out: Path, *, limit: int | None = None) -> dict[str, Any]:
        calls.append((seed, out))
        assert data == tmp_path / "data"
        assert out.is_dir()
        return {"accuracy": seed / 10, "limit": limit}

    place = Place(tmp_path / "data", tmp_path / "runs")
    for _ in range(2):
        found = [place.seed_run("digits", seed, run_once, limit=5) for seed in (1, 2)]
    assert found == [{"accuracy": 0.1, "limit": 5}, {"accuracy": 0.2, "limit": 5}]
    assert [seed for seed, _ in calls] == [1, 2]
    kept = json.loads((tmp_path / "runs/digits/seed-1.json").read_text())
    assert kept["result"] == found[0]
    assert kept["duration_s"] >= 0
    assert place.duration_s("digits", "seed-1") == kept["duration_s"]
    Place(place.data, place.runs, fresh=True).seed_run("digits", 1, run_once)
    assert len(calls) == 3


def test_a_run_that_fails_is_not_kept_but_its_folder_is(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "runs")

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint").write_text("half")
        raise RuntimeError("cut short")

    with pytest.raises(RuntimeError, match="cut short"):
        place.once("digits", "seed-1", fail)
    assert place.once("digits", "seed-1", lambda folder: {"found": (folder / "checkpoint").read_text()}) == {
        "found": "half"
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        place.once("digits", "seed-2", lambda _: {"loss": float("nan")})
