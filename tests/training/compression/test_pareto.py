"""Which forms are worth having, which one is chosen, and what a run of each costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.training.compression.latency import measure_latency
from shared.training.compression.pareto import Point, choose, frontier, read_points, write_points
from tests.shared.inference.graphs import linear


def point(name: str, quality: float, latency_ms: float, kilobytes: int) -> Point:
    return Point(name, quality, quality - 0.01, quality + 0.01, latency_ms / 1e3, kilobytes * 1000)


POINTS = [
    point("fp32", 0.900, 1.0, 400),
    point("int8", 0.897, 1.0, 110),
    point("static", 0.892, 0.5, 105),
    point("slow", 0.896, 2.0, 120),
    point("tiny", 0.80, 0.2, 20),
]


def test_the_frontier_is_what_nothing_else_beats() -> None:
    assert [found.name for found in frontier(POINTS)] == ["tiny", "static", "int8", "fp32"]


def test_equal_points_do_not_beat_each_other() -> None:
    twins = [point("a", 0.9, 1, 1), point("b", 0.9, 1, 1)]
    assert len(frontier(twins)) == 2


def test_the_smallest_that_loses_little_is_chosen() -> None:
    def chosen(most_lost: float) -> list[str]:
        return [found.name for found in choose(POINTS, reference="fp32", most_lost=most_lost) if found.chosen]

    assert chosen(0.01) == ["static"]
    assert chosen(0.004) == ["int8"]
    assert chosen(0.0) == ["fp32"]
    assert chosen(0.2) == ["tiny"]


def test_points_are_kept_beside_a_run(tmp_path: Path) -> None:
    points = choose(POINTS, reference="fp32")
    write_points(tmp_path / "run" / "pareto.json", points)
    assert read_points(tmp_path / "run" / "pareto.json") == points


def test_the_slower_graph_is_found_slower() -> None:
    # The same graph, asked by rows: only their number differs.
    content = linear(max_batch_size=0).content
    few = measure_latency({"a": content}, {"x": np.zeros((1, 16), np.float32)}, rounds=5)
    many = measure_latency({"a": content}, {"x": np.zeros((100_000, 16), np.float32)}, rounds=5)
    assert 0 < few["a"] < many["a"]
