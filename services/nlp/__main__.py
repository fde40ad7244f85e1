"""`python -m services.nlp`: the language replica, configured by SENSORIUM_NLP_* (see README.md)."""

from functools import partial
from pathlib import Path

from sensorium.nlp.v1 import nlp_service_pb2_grpc

from services.nlp.limits import describe, read_max_tokens
from services.nlp.servicer import NlpServicer
from services.nlp.settings import NlpSettings
from shared.inference.repository.repository import Repository
from shared.inference.serving import make_server
from shared.rpc.main import run
from shared.rpc.server import Register, Server
from shared.settings import load

SERVICE = "nlp"
CATALOG = Path(__file__).parent / "models" / "catalog.toml"


async def build() -> Server:
    """The server, by the settings of the environment."""
    settings = load(NlpSettings, SERVICE)

    def make_servicer(repository: Repository) -> Register:
        servicer = NlpServicer(repository, settings.bounds)
        return partial(nlp_service_pb2_grpc.add_NlpServiceServicer_to_server, servicer)

    return make_server(
        SERVICE,
        settings.rpc,
        settings.inference,
        CATALOG,
        make_servicer=make_servicer,
        describe_limits=lambda repository: describe(
            settings.bounds, settings.rpc.max_message_bytes, read_max_tokens(repository)
        ),
    )


if __name__ == "__main__":
    run(build)
