"""A language replica with the pulled models, once per module and front."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc

from services.nlp.limits import Bounds, describe, read_max_tokens
from services.nlp.servicer import NlpServicer
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.replica import Replica
from tests.support.serving import FRONTS, Serving, serving
from tests.support.waiting import within

ROOT = Path(__file__).parents[3]
BOUNDS = Bounds()


@dataclass(frozen=True)
class Nlp:
    """The service behind a real port."""

    stub: Any
    repository: Repository
    serving: Serving


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FRONTS)
async def nlp(request: pytest.FixtureRequest, models_dir: Path) -> AsyncIterator[Nlp]:
    catalog = read_catalog(ROOT / "services" / "nlp" / "models" / "catalog.toml")
    repository = Repository(models_dir / "nlp", "nlp", InferenceSettings(), catalog)
    await within(repository.load_all(), 60.0)
    replica = Replica("nlp", limits=describe(BOUNDS, 32 * 2**20, read_max_tokens(repository)))
    replica.set_models(repository.statuses())
    servicer = NlpServicer(repository, BOUNDS)
    async with serving(
        lambda server: pb_grpc.add_NlpServiceServicer_to_server(servicer, server),
        front=request.param,
        replica=replica,
    ) as running:
        yield Nlp(pb_grpc.NlpServiceStub(running.channel), repository, running)
    await within(repository.close())
