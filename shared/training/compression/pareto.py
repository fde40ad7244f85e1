"""Quality, latency and bytes of all forms of a model: which are worth having, and which one was chosen.

Lives here: the points, the frontier, the picture. Not here: making the forms, and the table of a card (`card/`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shared.files import write_atomically


@dataclass(frozen=True)
class Point:
    """One form of a model."""

    name: str
    quality: float  # accuracy on held-out items, more is better
    low: float  # its 95 % interval
    high: float
    latency_s: float  # CPU seconds of one item alone, one thread
    bytes: int  # of the graph's file
    chosen: bool = False
    note: str = ""


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats: none is at least as good, fast and small and better in one of them. Smallest first."""
    kept = [point for point in points if not any(_beats(other, point) for other in points)]
    return sorted(kept, key=lambda point: (point.bytes, point.latency_s))


def choose(points: Sequence[Point], *, reference: str, most_lost: float = 0.01) -> list[Point]:
    """The same points, one of them chosen: the smallest that loses at most so much against `reference`, else that one."""
    by_name = {point.name: point for point in points}
    least = by_name[reference].quality - most_lost
    good = [point for point in frontier(points) if point.quality >= least] or [by_name[reference]]
    best = min(good, key=lambda point: (point.bytes, point.latency_s))
    return [replace(point, chosen=point.name == best.name) for point in points]


def write_points(path: Path, points: Sequence[Point], *, metric: str = "accuracy") -> None:
    """Keep points beside a run, for its card and for `make quality`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, json.dumps({"metric": metric, "points": [asdict(point) for point in points]}, indent=1) + "\n"
    )


def read_points(path: Path) -> list[Point]:
    """Points that `write_points` kept."""
    return [Point(**point) for point in json.loads(path.read_text())["points"]]


def draw_pareto(points: Sequence[Point], *, title: str, metric: str = "accuracy") -> bytes:
    """Quality over latency, the size of a point showing its bytes; the frontier is joined, the chosen one filled."""
    from matplotlib.figure import Figure

    from shared.training.evaluation.plot import to_png

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    largest = max(point.bytes for point in points)
    best = sorted(frontier(points), key=lambda point: point.latency_s)
    axes.plot(
        [point.latency_s * 1e3 for point in best],
        [point.quality for point in best],
        color="#999999",
        linewidth=1,
        linestyle="--",
        label="not beaten in quality, time and bytes",
    )
    for point in points:
        color = "#c05621" if point.chosen else "#2b6cb0"
        place = (point.latency_s * 1e3, point.quality)
        axes.errorbar(
            *place,
            yerr=[[max(point.quality - point.low, 0)], [max(point.high - point.quality, 0)]],
            color=color,
            linewidth=0.8,
            capsize=2,
        )
        axes.scatter(
            *place,
            s=30 + 370 * point.bytes / largest,
            facecolor=color if point.chosen else "none",
            edgecolor=color,
            zorder=3,
        )
        axes.annotate(
            f"{point.name}\n{_say_bytes(point.bytes)}",
            place,
            textcoords="offset points",
            xytext=(9, 5),
            fontsize=7,
        )
    axes.margins(0.18)
    axes.set_xscale("log")
    axes.set(xlabel="CPU time of one item, ms (log)", ylabel=metric)
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", fontsize=7, frameon=False)
    return to_png(figure)


def _beats(one: Point, other: Point) -> bool:
    ours, theirs = (-one.quality, one.latency_s, one.bytes), (-other.quality, other.latency_s, other.bytes)
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


def _say_bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
