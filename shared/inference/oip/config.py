"""How a graph is served, in the terms of the protocol's ModelConfig.

Here: a pure function of a served graph. Not here: its tensors' metadata and replies (`reply.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import model_config_pb2 as config_pb

from shared.inference.manifest import Tensor
from shared.inference.model import ServedGraph
from shared.inference.oip.classification import LABELS_ASSET, has_labels
from shared.inference.oip.parameters import PRIORITY_LEVELS
from shared.inference.settings import ModelSettings

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
_CPU = "CPUExecutionProvider"


def make_config(name: str, graph: ServedGraph, labels: Sequence[str]) -> pb.ModelConfigResponse:
    """How a graph is served, as the protocol's clients know it; `name` as the request wrote it."""
    loaded, artifact = graph.loaded, graph.artifact
    batched = bool(loaded.max_batch_size)
    kinds = config_pb.ModelInstanceGroup
    config = config_pb.ModelConfig(
        name=name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=loaded.max_batch_size,
        input=[
            config_pb.ModelInput(
                name=tensor.name, data_type=_find_type(tensor.dtype), dims=_list_dims(tensor, batched)
            )
            for tensor in loaded.signature.inputs
        ],
        output=[
            config_pb.ModelOutput(
                name=tensor.name,
                data_type=_find_type(tensor.dtype),
                dims=_list_dims(tensor, batched),
                label_filename=artifact.manifest.assets[LABELS_ASSET]
                if has_labels(tensor, labels, batched=batched)
                else "",
            )
            for tensor in loaded.signature.outputs
        ],
        instance_group=[
            kinds(
                name=graph.name,
                count=graph.settings.instances,
                kind=kinds.KIND_CPU if loaded.session.provider == _CPU else kinds.KIND_GPU,
            )
        ],
        default_model_filename=loaded.signature.find_file(loaded.precision),
        # A request gets exactly one reply.
        model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=False),
        response_cache=config_pb.ModelResponseCache(enable=graph.cache is not None),
    )
    _tell_versions(config.version_policy, graph.settings)
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = round(graph.settings.max_queue_delay_s * 1e6)
    batching.priority_levels, batching.default_priority_level = PRIORITY_LEVELS, 1
    policy = batching.default_queue_policy
    policy.timeout_action = config_pb.ModelQueuePolicy.REJECT
    policy.allow_timeout_override = True
    policy.max_queue_size = graph.settings.max_queue_size
    if loaded.max_batch_size < 2:
        # Calls are not put together, they only wait for each other.
        config.ClearField("dynamic_batching")
    for key, value in (
        ("digest", artifact.digest),
        ("service", artifact.service),
        ("task", artifact.task),
        ("description", artifact.description),
        ("license", artifact.license),
        *_tell_session(graph),
    ):
        config.parameters[key].string_value = value
    return pb.ModelConfigResponse(config=config)


def _tell_session(graph: ServedGraph) -> Iterator[tuple[str, str]]:
    """What runs the graph, and where that comes from."""
    loaded, session = graph.loaded, graph.loaded.session
    yield "execution_provider", session.provider
    if session.choice.explanation:
        yield "execution_provider_reason", session.choice.explanation
    yield "precision", loaded.precision or "as exported"
    yield "intra_op_threads", str(session.threads)
    yield "optimized_graph", "from the cache" if session.from_cache else "made at load"
    if loaded.batch_wide:
        yield "runs_row_by_row", "it quantizes over all rows of a run"
    if graph.tuned:
        yield "tuned", ", ".join(f"{key}={value}" for key, value in sorted(graph.tuned.items()))


def _tell_versions(policy: config_pb.ModelVersionPolicy, settings: ModelSettings) -> None:
    if settings.version == "latest":
        policy.latest.num_versions = settings.ready_versions
    elif settings.version.isdecimal() and len(settings.version) < 19:
        # The protocol's versions are numbers of 64 bits; of others it cannot tell.
        policy.specific.versions.append(int(settings.version))


def _list_dims(tensor: Tensor, batched: bool) -> tuple[int, ...]:
    """Axes of a tensor; with a batch axis the protocol leaves it out."""
    return tensor.shape[1:] if batched else tensor.shape


def _find_type(dtype: str) -> config_pb.DataType.ValueType:
    return config_pb.DataType.Value("TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}")
