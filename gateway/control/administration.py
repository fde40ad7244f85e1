"""Calls of the Open Inference Protocol that change what replicas serve, or how: passed on to all of them.

Who may call them is the routes' business (`admin_scope`). Nothing is kept here: a replica that is started later comes up
with what its repository has on disk, whatever was loaded or unloaded before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from sensorium.oip.v2 import inference_pb2 as pb

from gateway.contract import INFERENCE
from gateway.control.fanout import Outcome, ask_all, settle
from gateway.control.handler import make_handler
from gateway.control.view import View
from gateway.discovery.catalog import RETRY_AFTER_S, Catalog
from gateway.discovery.roster import Replica, State
from shared.errors import InvalidArgument, Unavailable
from shared.rpc.caller import current_caller
from shared.rpc.deadline import Deadline, current_deadline
from shared.telemetry.logging import get_logger

# Routing follows a replica within a tenth of a second, and a first health check; the caller's next call should find it so.
# A data plane that is late by this much is slow for another reason.
_FOLLOW_S = 3.0


class AdministrationServicer:
    """`methods` are those served here."""

    def __init__(self, view: View) -> None:
        self._view = view

    def methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Handlers by name."""
        served: dict[str, tuple[Any, Any]] = {
            "RepositoryModelLoad": (self.load, pb.RepositoryModelLoadRequest),
            "RepositoryModelUnload": (self.unload, pb.RepositoryModelUnloadRequest),
            "LogSettings": (self.log_settings, pb.LogSettingsRequest),
            "TraceSetting": (self.trace_setting, pb.TraceSettingRequest),
        }
        return {name: make_handler(serve, request) for name, (serve, request) in served.items()}

    async def load(
        self, request: pb.RepositoryModelLoadRequest, context: Any
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model on every replica of its service; returns when calls for it reach all of them."""
        service, model = self._find(request.model_name)
        deadline = current_deadline()
        request.model_name = model
        outcomes = await ask_all(self._replicas(service), "RepositoryModelLoad", request, deadline)
        self._report("load", service, model, outcomes)
        done = [outcome.replica for outcome in outcomes if not outcome.failed]
        index = await ask_all(done, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), _soon(deadline))
        expected = {
            outcome.replica.endpoint: _versions(service, model, outcome.reply)
            for outcome in index
            if not outcome.failed
        }
        await self._wait(
            lambda catalog: all(
                expected.get(replica.endpoint, set()) <= replica.ready_versions
                for replica in catalog.replicas
                if replica.service == service
            ),
            _soon(deadline),
        )
        await settle(outcomes, f"model {service}/{model}", "loaded", context)
        return pb.RepositoryModelLoadResponse()

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest, context: Any
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model, or a version of it, on every replica of its service; returns when calls for it reach none."""
        service, model = self._find(request.model_name)
        version = request.parameters["version"].string_param if "version" in request.parameters else ""
        deadline = current_deadline()
        request.model_name = model
        outcomes = await ask_all(self._replicas(service), "RepositoryModelUnload", request, deadline)
        self._report("unload", service, model, outcomes)
        done = {outcome.replica.endpoint for outcome in outcomes if not outcome.failed}
        await self._wait(
            lambda catalog: (
                not any(
                    (one if version else one.rpartition("@")[0])
                    == (f"{model}@{version}" if version else model)
                    for replica in catalog.replicas
                    if replica.service == service and replica.endpoint in done
                    for one in replica.ready_versions | (replica.rotation.models or frozenset())
                )
            ),
            _soon(deadline),
        )
        await settle(outcomes, f"model {service}/{model}", "unloaded", context)
        return pb.RepositoryModelUnloadResponse()

    async def log_settings(self, request: pb.LogSettingsRequest, context: Any) -> pb.LogSettingsResponse:
        """Sets how much every replica logs; the answer is that of one of them."""
        reply: pb.LogSettingsResponse = await self._everywhere(
            "LogSettings", request, "log settings", context
        )
        return reply

    async def trace_setting(self, request: pb.TraceSettingRequest, context: Any) -> pb.TraceSettingResponse:
        """Sets how every replica traces; the answer is that of one of them."""
        reply: pb.TraceSettingResponse = await self._everywhere(
            "TraceSetting", request, "trace settings", context
        )
        return reply

    async def _everywhere(self, method: str, request: Any, what: str, context: Any) -> Any:
        catalog = self._view.said
        replicas = [
            replica
            for replica in catalog.replicas
            # One that never reported is none of ours: it logs in its own way.
            if replica.state is not State.DRAINING and replica.report.instance_id
        ]
        if not replicas:
            raise Unavailable(
                what, reason="the gateway knows of no replica of ours", retry_after_s=RETRY_AFTER_S
            )
        outcomes = await ask_all(replicas, method, request, current_deadline())
        if request.settings:
            self._report(method, "", "", outcomes)
        await settle(outcomes, what, "set", context)
        return outcomes[0].reply

    def _find(self, name: str) -> tuple[str, str]:
        """Service and bare name. A whole name may be one that no replica knows yet: it may lie on their disks.

        Raises InvalidArgument, NotFound, FailedPrecondition.
        """
        if not name:
            raise InvalidArgument(
                "model_name", expected="the name of a model", got="none", fix="RepositoryIndex lists them"
            )
        catalog = self._view.said
        service, slash, bare = name.partition("/")
        if slash and service in catalog.services and bare and "/" not in bare:
            return service, bare
        return catalog.find(name)

    def _replicas(self, service: str) -> list[Replica]:
        catalog = self._view.said
        replicas = [
            replica
            for replica in catalog.replicas
            # A draining one is gone before it could matter.
            if replica.service == service and replica.state is not State.DRAINING
        ]
        if not replicas:
            raise Unavailable(
                f"service {service}", reason=catalog.explain_service(service), retry_after_s=RETRY_AFTER_S
            )
        return replicas

    async def _wait(self, condition: Callable[[Catalog], bool], deadline: Deadline) -> None:
        """Until calls find it so, or the time is up."""
        try:
            async with asyncio.timeout(max(0.0, deadline.remaining_s())):
                async for catalog in self._view.changes():
                    if condition(catalog):
                        return
        except TimeoutError:
            get_logger("control").warning("routing is late", after_s=_FOLLOW_S)

    def _report(self, action: str, service: str, model: str, outcomes: Sequence[Outcome]) -> None:
        """Who changed what, for the operator's log."""
        get_logger("control").info(
            action,
            principal=current_caller().principal,
            service=service,
            model=model,
            replicas=len(outcomes),
            failed=[str(outcome)[:200] for outcome in outcomes if outcome.failed],
            protocol=INFERENCE,
        )


def _versions(service: str, model: str, index: pb.RepositoryIndexResponse) -> set[str]:
    """`name@version` of a model, or its graphs, that a replica lists."""
    names = [(one.name.removeprefix(f"{service}/"), one.version) for one in index.models]
    return {f"{name}@{version}" for name, version in names if name == model or name.startswith(f"{model}.")}


def _soon(deadline: Deadline) -> Deadline:
    follow = Deadline.after(_FOLLOW_S)
    return deadline if deadline.at_s < follow.at_s else follow
