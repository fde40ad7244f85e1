"""`python -m services.speech`: the speech replica, configured by SENSORIUM_SPEECH_* (see README.md)."""

from functools import partial
from pathlib import Path

from sensorium.speech.v1 import speech_service_pb2_grpc

from services.speech.limits import describe
from services.speech.servicer import SpeechServicer
from services.speech.settings import SpeechSettings
from shared.inference.repository.repository import Repository
from shared.inference.serving import make_server
from shared.rpc.main import run
from shared.rpc.server import Register, Server
from shared.settings import load

SERVICE = "speech"
CATALOG = Path(__file__).parent / "models" / "catalog.toml"


async def build() -> Server:
    """The server, by the settings of the environment."""
    settings = load(SpeechSettings, SERVICE)

    def make_servicer(repository: Repository) -> Register:
        servicer = SpeechServicer(repository, settings.bounds)
        return partial(speech_service_pb2_grpc.add_SpeechServiceServicer_to_server, servicer)

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
