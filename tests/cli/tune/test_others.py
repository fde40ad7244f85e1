"""How busy others are, read from the kernel's counters."""

import os
from pathlib import Path

import pytest

from cli.tune.others import Others

TICKS = os.sysconf("SC_CLK_TCK")


def write(path: Path, user_s: float, idle_s: float) -> None:
    path.write_text(f"cpu  {round(user_s * TICKS)} 0 0 {round(idle_s * TICKS)} 0 0 0 0 0 0\ncpu0 0\n")


def test_what_others_ran_is_counted_and_idle_time_is_not(tmp_path: Path) -> None:
    write(tmp_path / "stat", 100, 500)
    others = Others(tmp_path / "stat")
    write(tmp_path / "stat", 100, 900)
    assert others.count_cores() == 0
    write(tmp_path / "stat", 1e6, 900)
    assert others.count_cores() > 1


def test_where_the_kernel_tells_nothing_nobody_is_blamed(tmp_path: Path) -> None:
    assert Others(tmp_path / "none").count_cores() == 0
    (tmp_path / "odd").write_text("nothing of the kind")
    assert Others(tmp_path / "odd").count_cores() == pytest.approx(0)
