"""Metrics as a process tells them, in Prometheus' text format, under the names that stand there.

prometheus-client's own parser appends `_total` to the counters of others, which Prometheus does not.
"""

from __future__ import annotations

import re

Labels = frozenset[tuple[str, str]]
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", re.M)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse(text: str) -> dict[tuple[str, Labels], float]:
    """Samples by name and labels."""
    return {
        (name, frozenset(_LABEL.findall(labels))): float(value)
        for name, labels, value in _SAMPLE.findall(text)
    }


def label(**labels: str) -> Labels:
    """Labels as `parse` has them."""
    return frozenset(labels.items())
