"""A speech replica with the pulled models, once per module and front."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sensorium.speech.v1 import speech_service_pb2_grpc as pb_grpc

from services.speech.limits import Bounds, describe
from services.speech.servicer import SpeechServicer
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.replica import Replica
from tests.support.serving import FRONTS, Serving, serving
from tests.support.waiting import within

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Speech:
    """The service behind a real port."""

    stub: Any
    repository: Repository
    serving: Serving


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FRONTS)
async def speech(request: pytest.FixtureRequest, models_dir: Path) -> AsyncIterator[Speech]:
    catalog = read_catalog(ROOT / "services" / "speech" / "models" / "catalog.toml")
    repository = Repository(models_dir / "speech", "speech", InferenceSettings(), catalog)
    await within(repository.load_all(), 60.0)
    bounds = Bounds(max_clips=4)
    replica = Replica("speech", limits=describe(bounds, 32 * 2**20))
    replica.set_models(repository.statuses())
    servicer = SpeechServicer(repository, bounds)
    async with serving(
        lambda server: pb_grpc.add_SpeechServiceServicer_to_server(servicer, server),
        front=request.param,
        replica=replica,
    ) as running:
        yield Speech(pb_grpc.SpeechServiceStub(running.channel), repository, running)
    await within(repository.close())


@pytest.fixture(scope="session")
def beckett(sample: Callable[[str], Path]) -> bytes:
    """9.96 s of one man, 16 kHz mono WAV."""
    return sample("beckett").read_bytes()
