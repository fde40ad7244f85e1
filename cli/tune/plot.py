"""Throughput over latency as a drawing (SVG): one line for each threads x instances, one dot for each batch size.

A pure function of what was measured. Not here: the table (`show.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TypeAlias

from shared.inference.tuning.values import Candidate, Tuned

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 50, 60
# Told apart by people who do not see all colours, too (Okabe and Ito).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

# From latency (seconds) and items a second to the drawing.
_Place: TypeAlias = Callable[[float, float], tuple[float, float]]


def draw(tuned: Tuned) -> str:
    """The SVG file's text."""
    candidates = tuned.candidates
    high_s = max(*(each.figures.latency_s for each in candidates), tuned.latency_target_s) * 1.1
    low_s = min(*(each.figures.latency_s for each in candidates), tuned.latency_target_s) / 1.1
    top = max(each.figures.items_per_s for each in candidates) * 1.1

    def place(latency_s: float, items_per_s: float) -> tuple[float, float]:
        # Latency in powers: the smallest batch is as far from the next as the largest from the one before.
        share = math.log(latency_s / low_s) / math.log(high_s / low_s)
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - items_per_s / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 20, f"{tuned.model} {tuned.version} on {tuned.provider}", size=15),
        _text(_LEFT, 37, f"{tuned.cores} cores, {tuned.cpu}, ONNX Runtime {tuned.runtime.split()[0]}"),
        *_draw_axes(place, low_s, high_s, top),
        *_draw_target(place, tuned.latency_target_s, top),
    ]
    shapes: dict[tuple[int, int], list[Candidate]] = {}
    for each in candidates:
        shapes.setdefault((each.values.intra_op_threads, each.values.instances), []).append(each)
    for index, ((threads, instances), line) in enumerate(shapes.items()):
        color = _COLORS[index % len(_COLORS)]
        points = [place(each.figures.latency_s, each.figures.items_per_s) for each in line]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        for (x, y), each in zip(points, line, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>')
            parts.append(_text(x + 5, y - 5, str(each.values.max_batch_size), fill=color))
        y_legend = _TOP + 16 * (index + 1)
        parts.append(
            f'<rect x="{_WIDTH - _RIGHT + 16}" y="{y_legend - 9}" width="10" height="10" fill="{color}"/>'
        )
        parts.append(_text(_WIDTH - _RIGHT + 32, y_legend, f"{_count(threads, 'thread')} x {instances}"))
    x, y = place(tuned.best.figures.latency_s, tuned.best.figures.items_per_s)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="black" stroke-width="2"/>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _draw_axes(place: _Place, low_s: float, high_s: float, top: float) -> list[str]:
    left, bottom = _LEFT, _HEIGHT - _BOTTOM
    parts = [
        f'<path d="M{left} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" fill="none" stroke="black"/>',
        _text(left, _HEIGHT - 12, "95th percentile of latency, all instances busy; dots: batch size"),
    ]
    for latency_s in _list_ticks(low_s, high_s):
        x, _ = place(latency_s, 0)
        parts.append(f'<path d="M{x:.1f} {bottom}v5" stroke="black"/>')
        parts.append(_text(x - 14, bottom + 18, f"{latency_s * 1e3:g} ms"))
    step = _find_step(top)
    for number in range(int(top / step) + 1):
        _, y = place(high_s, number * step)
        parts.append(f'<path d="M{left - 5} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(_text(8, y + 4, f"{number * step:g}/s"))
    return parts


def _draw_target(place: _Place, target_s: float, top: float) -> list[str]:
    x, _ = place(target_s, 0)
    _, y = place(target_s, top)
    return [
        f'<path d="M{x:.1f} {_HEIGHT - _BOTTOM}V{y:.1f}" stroke="#888888" stroke-dasharray="5 4"/>',
        _text(x + 4, y + 10, f"target {target_s * 1e3:g} ms", fill="#666666"),
    ]


def _list_ticks(low_s: float, high_s: float) -> Sequence[float]:
    """1, 2, 5, 10, … ms, as far as they lie between the ends."""
    steps = [digit * 10.0**power for power in range(-6, 4) for digit in (1, 2, 5)]
    return [step for step in steps if low_s <= step <= high_s]


def _find_step(top: float) -> float:
    """A round step that makes four to ten lines."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    return max(digit * power for digit in (1, 2, 5) if digit * power <= top / 4)


def _text(x: float, y: float, text: str, *, size: int = 12, fill: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}">{escape(text)}</text>'


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
