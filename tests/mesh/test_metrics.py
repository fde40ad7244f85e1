"""Every metric that a dashboard, an alert, an autoscaler or a runbook names is told by a live mesh."""

from __future__ import annotations

import re

import pytest

from tests.mesh.running import RunningMesh
from tests.observability.expression import PROMETHEUS_OWN, Expression, read_all, read_runbooks
from tests.observability.target import Target
from tests.support.exposition import parse

# Told once there is something to tell of.
_FAMILY = re.compile(r"^# TYPE (\S+)", re.M)


@pytest.fixture(scope="module")
def told(mesh: RunningMesh, targets: list[Target]) -> set[str]:
    found: set[str] = set()
    for target in targets:
        text = target.read()
        found |= {name for name, _ in parse(text)} | set(_FAMILY.findall(text))
    return found


@pytest.mark.parametrize("expression", [*read_all(), *read_runbooks()], ids=lambda one: one.place)
def test_its_metrics_exist(expression: Expression, told: set[str]) -> None:
    assert expression.metrics
    assert expression.metrics <= told | PROMETHEUS_OWN, expression.text
