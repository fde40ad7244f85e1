"""The real service with the real models, on both fronts, once per module; and the samples as bytes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from sensorium.vision.v1 import vision_service_pb2_grpc as pb_grpc

from services.vision.limits import Bounds, describe
from services.vision.servicer import VisionServicer
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.replica import Replica
from tests.support.serving import FRONTS, serving
from tests.support.waiting import within

CATALOG = Path(__file__).parents[3] / "services" / "vision" / "models" / "catalog.toml"
# Opening four models on a busy machine, in seconds.
LOAD_LIMIT_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FRONTS)
async def vision(
    request: pytest.FixtureRequest, models_dir: Path
) -> AsyncIterator[pb_grpc.VisionServiceStub]:
    """A stub of a running vision service."""
    settings = InferenceSettings(models_dir=models_dir / "vision", golden_check=False)
    repository = Repository(models_dir / "vision", "vision", settings, read_catalog(CATALOG))
    await within(repository.load_all(), LOAD_LIMIT_S)
    replica = Replica("vision", limits=describe(Bounds(), 32 * 2**20))
    replica.set_models(repository.statuses())
    servicer = VisionServicer(repository, Bounds())
    async with serving(
        lambda server: pb_grpc.add_VisionServiceServicer_to_server(servicer, server),
        front=request.param,
        replica=replica,
    ) as served:
        yield pb_grpc.VisionServiceStub(served.channel)
    await within(repository.close())


@pytest.fixture(scope="module")
def cat(sample: Callable[[str], Path]) -> bytes:
    """Chelsea, PNG."""
    return sample("cat").read_bytes()


@pytest.fixture(scope="module")
def portrait(sample: Callable[[str], Path]) -> bytes:
    """One person, one face, PNG of 512 x 512."""
    return sample("portrait").read_bytes()


@pytest.fixture(scope="module")
def page(sample: Callable[[str], Path]) -> bytes:
    """A scanned page, PNG of 384 x 191."""
    return sample("page").read_bytes()
