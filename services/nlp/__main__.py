"""`python -m services.nlp`: the language replica, configured by SENSORIUM_NLP_* (see README.md)."""

from functools import partial
from pathlib import Path

from sensorium.nlp.v1 import nlp_service_pb2_grpc

from services.nlp.limits import describe, read_max_tokens
from services.nlp.servicer import NlpServicer
from services.nlp.settings import NlpSettings
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

SERVICE = "nlp"
CATALOG = Path(__file__).parent / "models" / "catalog.toml"


async def build() -> Server:
    """Settings → models → servicers → server. Models are loaded while it listens; calls for them wait outside."""
    settings = load(NlpSettings, SERVICE)
    replica = Replica(SERVICE)

    def tell() -> None:
        replica.set_limits(
            describe(settings.bounds, settings.rpc.max_message_bytes, read_max_tokens(repository))
        )
        replica.set_models(repository.statuses())

    isolation = Isolation.start(SERVICE, settings.inference.isolation)
    repository = Repository(
        settings.inference.find_models_dir(SERVICE),
        SERVICE,
        settings.inference,
        read_catalog(CATALOG),
        on_change=tell,
        isolation=isolation,
    )
    tell()
    repository.start()
    nlp = NlpServicer(repository, settings.bounds)
    tensors = InferenceServicer(repository)
    metrics = InferenceMetrics(repository, settings.inference.cores)
    return Server(
        settings.rpc,
        service=SERVICE,
        replica=replica,
        register=[
            lambda server: nlp_service_pb2_grpc.add_NlpServiceServicer_to_server(nlp, server),
            lambda server: add_to_server(tensors, server),
        ],
        background=[partial(isolation.keep, repository)],
        on_stop=[repository.close],
        collectors=[repository.make_collector(), metrics],
        workload=metrics,
    )


if __name__ == "__main__":
    run(build)
