"""Calls about the mesh itself."""

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from sensorium.calls.plan import Plan, Request, Rpc, enum_name, seconds
from sensorium.mesh.v1 import mesh_service_pb2 as pb2
from sensorium.mesh.v1 import replica_service_pb2 as replica_pb2
from sensorium.results import Limits, ModelInfo, ReplicaInfo

_SERVICE = "/sensorium.mesh.v1.MeshService"
_OIP = "/inference.GRPCInferenceService"
_MODELS = Rpc(f"{_SERVICE}/ListModels", pb2.ListModelsRequest, pb2.ListModelsResponse)
_REPLICAS = Rpc(f"{_SERVICE}/ListReplicas", pb2.ListReplicasRequest, pb2.ListReplicasResponse)
_LIMITS = Rpc(f"{_SERVICE}/GetLimits", pb2.GetLimitsRequest, pb2.GetLimitsResponse)


def list_models(service: str) -> Plan[list[ModelInfo]]:
    """See `Client.list_models`."""

    def finish(replies: Sequence[pb2.ListModelsResponse]) -> list[ModelInfo]:
        return [
            ModelInfo(
                service=entry.service,
                name=entry.model.name,
                version=entry.model.version,
                state=_model_state(entry.model.state),
                reason=entry.model.reason,
                digest=entry.model.digest,
                description=entry.model.description,
                license=entry.model.license,
                graphs=tuple(entry.model.graphs),
                default_for=tuple(entry.model.default_for),
                execution_provider=entry.model.execution_provider,
                execution_provider_reason=entry.model.execution_provider_reason,
                ready_replicas=entry.ready_replicas,
                replicas=entry.replicas,
            )
            for entry in replies[0].models
        ]

    return Plan(_MODELS, [Request(pb2.ListModelsRequest(service=service))], finish)


def load_model(name: str, version: str) -> Plan[None]:
    """See `Client.load_model`."""
    # Imported late: these stubs and those of another client of the protocol do not go into one process.
    from sensorium.oip.v2 import inference_pb2 as oip

    request = oip.RepositoryModelLoadRequest(model_name=name)
    if version:
        request.parameters["version"].string_param = version
    rpc = Rpc(f"{_OIP}/RepositoryModelLoad", oip.RepositoryModelLoadRequest, oip.RepositoryModelLoadResponse)
    return Plan(rpc, [Request(request)], _forget)


def unload_model(name: str, version: str) -> Plan[None]:
    """See `Client.unload_model`."""
    from sensorium.oip.v2 import inference_pb2 as oip  # late, see above

    request = oip.RepositoryModelUnloadRequest(model_name=name)
    if version:
        request.parameters["version"].string_param = version
    rpc = Rpc(
        f"{_OIP}/RepositoryModelUnload", oip.RepositoryModelUnloadRequest, oip.RepositoryModelUnloadResponse
    )
    return Plan(rpc, [Request(request)], _forget)


def _forget(replies: Sequence[Message]) -> None:
    """The replies say nothing but that it is done."""


def list_replicas(service: str) -> Plan[list[ReplicaInfo]]:
    """See `Client.list_replicas`."""

    def finish(replies: Sequence[pb2.ListReplicasResponse]) -> list[ReplicaInfo]:
        return [
            ReplicaInfo(
                service=entry.service,
                endpoint=entry.endpoint,
                state=enum_name(pb2.MeshReplica.State, entry.state, "STATE_"),
                reason=entry.reason,
                server_version=entry.server_version,
                models=_find_states(entry.models),
            )
            for entry in replies[0].replicas
        ]

    return Plan(_REPLICAS, [Request(pb2.ListReplicasRequest(service=service))], finish)


def _find_states(models: Iterable[replica_pb2.ModelStatus]) -> dict[str, str]:
    """By name, the best that a version is in: one that cannot be loaded does not keep another from serving."""
    ready, loading = replica_pb2.ModelStatus.STATE_READY, replica_pb2.ModelStatus.STATE_LOADING
    best_last = sorted(models, key=lambda model: (model.state == ready, model.state == loading))
    return {model.name: _model_state(model.state) for model in best_last}


def get_limits() -> Plan[list[Limits]]:
    """See `Client.limits`."""

    def finish(replies: Sequence[pb2.GetLimitsResponse]) -> list[Limits]:
        return [
            Limits(
                method=entry.method,
                max_message_bytes=entry.max_message_bytes or None,
                max_items=entry.max_items or None,
                max_item_bytes=entry.max_item_bytes or None,
                max_pixels=entry.max_pixels or None,
                max_audio_s=seconds(entry.max_audio) or None,
                max_characters=entry.max_characters or None,
                max_tokens=entry.max_tokens or None,
                max_runs=entry.max_runs or None,
            )
            for entry in replies[0].limits
        ]

    return Plan(_LIMITS, [Request(pb2.GetLimitsRequest())], finish)


def _model_state(state: int) -> str:
    return enum_name(replica_pb2.ModelStatus.State, state, "STATE_")
