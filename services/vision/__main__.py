"""`python -m services.vision`: the vision replica, configured by SENSORIUM_VISION_* (see README.md)."""

from functools import partial
from pathlib import Path

from sensorium.vision.v1 import vision_service_pb2_grpc

from services.vision.limits import describe
from services.vision.servicer import VisionServicer
from services.vision.settings import VisionSettings
from shared.inference.repository.repository import Repository
from shared.inference.serving import make_server
from shared.rpc.main import run
from shared.rpc.server import Register, Server
from shared.settings import load

SERVICE = "vision"
CATALOG = Path(__file__).parent / "models" / "catalog.toml"


async def build() -> Server:
    """The server, by the settings of the environment."""
    settings = load(VisionSettings, SERVICE)

    def make_servicer(repository: Repository) -> Register:
        servicer = VisionServicer(repository, settings.bounds)
        return partial(vision_service_pb2_grpc.add_VisionServiceServicer_to_server, servicer)

    return make_server(
        SERVICE,
        settings.rpc,
        settings.inference,
        CATALOG,
        make_servicer=make_servicer,
        describe_limits=lambda _: describe(settings.bounds, settings.rpc.max_message_bytes),
    )


if __name__ == "__main__":
    run(build)
