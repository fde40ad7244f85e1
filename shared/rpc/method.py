"""One rpc of this server, with everything bound that does not change from call to call: its log, its metrics,
its rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.rpc.admission.admission import Admission, Door
from shared.rpc.gate import Gate
from shared.rpc.load import LoadMeter
from shared.rpc.settings import RpcSettings
from shared.telemetry.metrics import CallMetrics, MethodMetrics
from shared.telemetry.request_log import RequestLog

# Services about the process and not about its work: they answer while it drains, a watch lasts as long as its
# watcher wants, and what they log is DEBUG.
INFRASTRUCTURE = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "sensorium.mesh.v1.ReplicaService",
    }
)


@dataclass(frozen=True, slots=True)
class Method:
    """service: full name, e.g. `sensorium.vision.v1.VisionService`; name: e.g. `ClassifyImage`."""

    service: str
    name: str
    settings: RpcSettings
    gate: Gate
    door: Door
    load: LoadMeter
    log: RequestLog
    metrics: MethodMetrics
    infrastructure: bool

    @classmethod
    def bind(
        cls,
        service: str,
        name: str,
        settings: RpcSettings,
        gate: Gate,
        metrics: CallMetrics,
        admission: Admission | None = None,
        load: LoadMeter | None = None,
    ) -> Method:
        """Binds what one method needs, once, when it is registered. Without `admission` it is admitted by itself, without
        `load` it tells of a load of its own.
        """
        infrastructure = service in INFRASTRUCTURE
        return cls(
            service,
            name,
            settings,
            gate,
            (admission or Admission(settings.admission)).open_door(service, name),
            load or LoadMeter(metrics, gate),
            RequestLog(service, name, "debug" if infrastructure else "info"),
            metrics.bind(service, name),
            infrastructure,
        )
