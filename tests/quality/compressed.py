"""int8: at most a point of accuracy lost, and 1.5 times as fast or a third of the bytes, for every model that ships.

The forms, their accuracy on held-out items and what a run of each costs are those that the recorded command measured when it
was run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.training.compression.pareto import Point, read_points
from shared.training.release import POINTS
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact, not_measured
from tests.quality.shipped import list_shipped, rebuild

_REFERENCES = ("fp32", "float32")
_MOST_LOST, _FASTER, _SMALLER = 0.01, 1.5, 3.0


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model and int8 form: accuracy lost, times faster, times smaller, and whether it is one of the two."""
    for shipped in list_shipped(place):
        name, path = f"compressed/{shipped.title}", rebuild(shipped, place).folder / POINTS
        if not path.exists():
            yield not_measured(
                f"{name}/lost", "accuracy", f"<= {_MOST_LOST:g}", f"its command keeps no {POINTS}"
            )
            continue
        points = {point.name: point for point in read_points(path)}
        whole = next(points[known] for known in _REFERENCES if known in points)
        forms = [point for point in points.values() if "int8" in point.name]
        if not forms:
            yield not_measured(f"{name}/lost", "accuracy", f"<= {_MOST_LOST:g}", "no int8 form was tried")
        for form in forms:
            yield from _judge(f"{name}/{form.name}", whole, form)


def _judge(name: str, whole: Point, form: Point) -> Iterator[Row]:
    how = f"against {whole.name}, held-out items of its card; one item alone, CPU time of one thread"
    if form.chosen:
        how += "; chosen"
    yield exact(f"{name}/lost", whole.quality - form.quality, "accuracy", how, at_most=_MOST_LOST)
    faster, smaller = whole.latency_s / form.latency_s, whole.bytes / form.bytes
    yield exact(f"{name}/faster", faster, "x", how)
    yield exact(f"{name}/smaller", smaller, "x", how)
    # At least 1 where either bar is reached.
    gain = max(faster / _FASTER, smaller / _SMALLER)
    either = f"larger of times faster / {_FASTER:g} and times smaller / {_SMALLER:g}; {how}"
    yield exact(f"{name}/worth", gain, "of the bar", either, at_least=1.0)
