"""What a repository tells of its versions, to the gateway and to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sensorium.mesh.v1 import replica_service_pb2 as pb

from shared.inference.model import graph_name
from shared.inference.repository.catalog import Catalog, list_defaults
from shared.inference.repository.versions import LOADING, READY, Version

# How much of a reason becomes a label.
_REASON_CHARACTERS = 200


def describe(version: Version, catalog: Catalog) -> pb.ModelStatus:
    """A version as the replica reports it."""
    entry = catalog.get(version.name, {})
    status = pb.ModelStatus(
        name=version.name,
        version=version.version,
        state=version.state,
        reason=version.reason,
        description=str(entry.get("description", "")),
        license=str(entry.get("license", "")),
        default_for=list_defaults(catalog, version.name),
    )
    if version.model is not None:
        artifact = version.model.artifact
        status.digest = artifact.digest
        status.description = artifact.description
        status.license = artifact.license
        status.graphs.extend(graph_name(artifact, key) for key in artifact.graphs)
        status.execution_provider = version.model.provider
        status.execution_provider_reason = version.model.provider_reason
    return status


class RepositoryMetrics(Collector):
    """States of versions and outcomes of loads. A scrape comes on a thread of its own and may see one change less."""

    def __init__(
        self,
        list_versions: Callable[[], Iterable[Version]],
        outcomes: Mapping[tuple[str, str, str], int],
    ) -> None:
        """`outcomes` are loads by model, version, and `ready` or the kind of refusal."""
        self._list_versions = list_versions
        self._outcomes = outcomes

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape."""
        states = GaugeMetricFamily(
            "sensorium_inference_version_state",
            "1 for each version that is ready, loading or unavailable, with the reason.",
            labels=["model", "version", "state", "reason"],
        )
        for version in list(self._list_versions()):
            state = (
                "ready"
                if version.state == READY
                else "loading"
                if version.state == LOADING
                else "unavailable"
            )
            states.add_metric([version.name, version.version, state, version.reason[:_REASON_CHARACTERS]], 1)
        loads = CounterMetricFamily(
            "sensorium_inference_loads",
            "Versions that were loaded, by outcome: ready, or why they were refused.",
            labels=["model", "version", "outcome"],
        )
        for labels, count in sorted(dict(self._outcomes).items()):
            loads.add_metric([*labels], count)
        yield from (states, loads)
