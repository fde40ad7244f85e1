"""One gateway for the tests that only call it; those that break it make their own with `new_gateway`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.gateway.support.running import MESH, Gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Running, without replicas."""
    with Gateway(tmp_path_factory.mktemp("gw")).running() as made:
        yield made
        assert made.stop() == 0, made.log()


@pytest.fixture
def new_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways that are prepared and not started."""
    made: list[Gateway] = []

    def make(mesh: str = MESH, **environ: str) -> Gateway:
        made.append(Gateway(tmp_path_factory.mktemp("gw"), mesh=mesh, environ=environ))
        made[-1].prepare()
        return made[-1]

    yield make
    for one in made:
        one.clear()
