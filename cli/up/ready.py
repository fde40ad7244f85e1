"""When a mesh is ready, asked the way a client would ask: through the gateway, with the token."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensorium import AsyncClient
from sensorium.errors import SensoriumError, Unauthenticated
from sensorium.results import ModelInfo, ReplicaInfo

# Fast enough not to be felt, slow enough to cost nothing beside loading models.
_LOOK_S = 0.1
_CALL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Readiness:
    """missing: what is waited for, empty when nothing is. failed: models that will not serve, with reasons."""

    missing: str
    failed: tuple[str, ...] = ()
    serving: int = 0


def judge(
    replicas: Sequence[ReplicaInfo], models: Sequence[ModelInfo], services: Mapping[str, bool]
) -> Readiness:
    """Whether every service has a replica whose models are settled: each ready, or failed for good.

    services: name -> whether it has models at all.
    """
    for service, needs_models in services.items():
        own = [replica for replica in replicas if replica.service == service]
        if not any(_is_settled(replica, needs_models) for replica in own):
            states = sorted({_describe(replica) for replica in own})
            return Readiness(missing=f"{service}: {', '.join(states) or 'no replica is known yet'}")
    return Readiness(
        missing="",
        failed=tuple(f"{m.public_name} ({m.reason or m.state})" for m in models if not m.ready_replicas),
        serving=sum(1 for model in models if model.ready_replicas),
    )


async def wait_ready(
    address: str, token: str, services: Mapping[str, bool], *, timeout_s: float
) -> Readiness:
    """Waits until the mesh at `address` is ready; after `timeout_s` seconds `missing` says what was missing still.

    A gateway that takes tokens of other issuers only, and got none of them, counts as ready when it says so.
    """
    ends_s = time.monotonic() + timeout_s
    # It asks again anyway, and sooner.
    async with AsyncClient(address, token=token, timeout_s=_CALL_TIMEOUT_S, retries=False) as client:
        while True:
            try:
                found = judge(await client.list_replicas(), await client.list_models(), services)
            except Unauthenticated:
                if not token:
                    return Readiness("")
                raise
            except SensoriumError as error:
                found = Readiness(missing=f"gateway: {error.message}")
            if not found.missing or time.monotonic() > ends_s:
                return found
            await asyncio.sleep(_LOOK_S)


def _is_settled(replica: ReplicaInfo, needs_models: bool) -> bool:
    if not replica.models:
        return replica.state == "ready" and not needs_models
    # One without any good model never becomes ready; what is to be put into rotation counts as loading.
    return replica.state in ("ready", "starting") and "loading" not in replica.models.values()


def _describe(replica: ReplicaInfo) -> str:
    loading = [name for name, state in replica.models.items() if state == "loading"]
    return replica.reason or (f"loading {', '.join(loading)}" if loading else replica.state)
