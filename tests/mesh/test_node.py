"""Node, typed by protos/ alone: the round that `make test-clients` asks of every language."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cli.pull.samples import Sample
from tests.clients.expectation import EXPECTATIONS, Round
from tests.clients.program import Program
from tests.mesh.running import RunningMesh


@pytest.fixture(scope="module")
def done(mesh: RunningMesh, fetch: Callable[[str], Sample]) -> Round:
    """One round of the program that `make test` has built."""
    clip = fetch("beckett")
    return Program("node").run(mesh, fetch("cat").path, clip.path, str(clip.fields["transcript"]))


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_a_round_from_node(done: Round, name: str) -> None:
    value, holds = EXPECTATIONS[name].judge(name, done)
    assert holds, f"{name}: {value}, said {done.said.get(name)}, attempts {done.attempts}"
