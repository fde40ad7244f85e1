"""`python -m services.vision`: the vision replica, configured by SENSORIUM_VISION_* (see README.md)."""

from functools import partial
from pathlib import Path

from sensorium.vision.v1 import vision_service_pb2_grpc

from services.vision.limits import describe
from services.vision.servicer import VisionServicer
from services.vision.settings import VisionSettings
from shared.inference.isolation.isolation import Isolation
from shared.inference.metrics import InferenceMetrics
from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.rpc.main import run
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.settings import load

SERVICE = "vision"
CATALOG = Path(__file__).parent / "models" / "catalog.toml"


async def build() -> Server:
    """Settings → models → servicers → server. Models are loaded while it listens; calls for them wait outside."""
    settings = load(VisionSettings, SERVICE)
    replica = Replica(SERVICE, limits=describe(settings.bounds, settings.rpc.max_message_bytes))
    isolation = Isolation.start(SERVICE, settings.inference.isolation)
    repository = Repository(
        settings.inference.find_models_dir(SERVICE),
        SERVICE,
        settings.inference,
        read_catalog(CATALOG),
        on_change=lambda: replica.set_models(repository.statuses()),
        isolation=isolation,
    )
    replica.set_models(repository.statuses())
    repository.start()
    vision = VisionServicer(repository, settings.bounds)
    tensors = InferenceServicer(repository)
    metrics = InferenceMetrics(repository, settings.inference.cores)
    return Server(
        settings.rpc,
        service=SERVICE,
        replica=replica,
        register=[
            lambda server: vision_service_pb2_grpc.add_VisionServiceServicer_to_server(vision, server),
            lambda server: add_to_server(tensors, server),
        ],
        background=[partial(isolation.keep, repository)],
        on_stop=[repository.close],
        collectors=[repository.make_collector(), metrics],
        workload=metrics,
    )


if __name__ == "__main__":
    run(build)
