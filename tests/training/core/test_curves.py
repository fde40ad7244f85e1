"""One row an epoch, exact to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.training.curves import compare_curves, read_curves, write_curves

ROWS = [
    {"epoch": 1, "loss": 0.1 + 0.2, "duration_s": 1.5},
    {"epoch": 2, "loss": 1e-17, "duration_s": 2.5, "f1": 0.5},
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_curves(tmp_path / "curves.csv", ROWS)
    assert read_curves(tmp_path / "curves.csv") == ROWS
    assert (
        (tmp_path / "curves.csv")
        .read_text()
        .startswith("epoch,loss,duration_s,f1\n1,0.30000000000000004,1.5,\n")
    )


def test_curves_are_compared_but_for_the_time_they_took() -> None:
    slower = [{**row, "duration_s": 99.0} for row in ROWS]
    assert compare_curves(ROWS, slower) == 0
    assert compare_curves(ROWS, [{**ROWS[0], "loss": 0.5}, ROWS[1]]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="as many epochs, got 2 and 1"):
        compare_curves(ROWS, ROWS[:1])
    with pytest.raises(ValueError, match="same columns"):
        compare_curves(ROWS, [ROWS[0], ROWS[0]])
