"""A service's replica put together: models → servicers → server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sensorium.types.v1 import limits_pb2

from shared.inference.isolation.isolation import Isolation
from shared.inference.metrics import InferenceMetrics
from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.replica import Replica
from shared.rpc.server import Register, Server
from shared.rpc.settings import RpcSettings


def make_server(
    service: str,
    rpc: RpcSettings,
    inference: InferenceSettings,
    catalog: Path,
    *,
    make_servicer: Callable[[Repository], Register],
    describe_limits: Callable[[Repository], Sequence[limits_pb2.RpcLimits]],
) -> Server:
    """A server of the models in a service's folder: its own calls beside the Open Inference Protocol.

    Models are loaded while it listens; calls for them wait outside. To be called on the event loop.

    make_servicer: makes the service's own calls and returns what adds them to a server. describe_limits: what its rpcs
    accept; asked again whenever models come or go.
    """
    replica = Replica(service)
    isolation = Isolation.start(service, inference.isolation)

    def tell() -> None:
        replica.set_limits(describe_limits(repository))
        replica.set_models(repository.statuses())

    repository = Repository(
        inference.find_models_dir(service),
        service,
        inference,
        read_catalog(catalog),
        on_change=tell,
        isolation=isolation,
    )
    tell()
    repository.start()
    tensors = InferenceServicer(repository)
    metrics = InferenceMetrics(repository, inference.cores)
    return Server(
        rpc,
        service=service,
        replica=replica,
        register=[make_servicer(repository), lambda server: add_to_server(tensors, server)],
        background=[partial(isolation.keep, repository)],
        on_stop=[repository.close],
        collectors=[repository.make_collector(), metrics],
        workload=metrics,
    )
