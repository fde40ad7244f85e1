"""Loading, unloading and settings through the gateway: who may, that every replica hears, what is said of failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import FailedPrecondition, NotFound, SensoriumError, Unavailable
from shared.rpc.replica import Replica
from tests.gateway.support.running import Gateway
from tests.gateway.support.toy import Inference, model, toy
from tests.support.serving import get_details, get_status

OPTIONS = {"timeout": 10}


class Repository(Inference):
    """Loads and unloads `echo`, or fails with `error`; keeps what it was asked."""

    def __init__(self, error: SensoriumError | None = None) -> None:
        super().__init__("toy")
        self.asked: list[Any] = []
        self.error = error
        self.replica: Replica | None = None
        self.loaded = True

    def register(self) -> list[Callable[[Any], None]]:
        """What `Gateway.replica` takes."""
        return [toy(), lambda server: pb_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)]

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        self._set(request, loaded=True)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self._set(request, loaded=False)
        return pb.RepositoryModelUnloadResponse()

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        found = pb.RepositoryIndexResponse()
        if self.loaded:
            found.models.add(name="echo", version="1", state="READY")
        return found

    async def LogSettings(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        answer = pb.LogSettingsResponse()
        answer.settings["log_verbose_level"].uint32_param = 1
        return answer

    def _set(self, request: Any, *, loaded: bool) -> None:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        self.loaded = loaded
        assert self.replica is not None
        self.replica.set_models(
            [
                model("echo", ready=loaded, reason="" if loaded else "it was unloaded", default_for=("Say",)),
                model("other"),
            ]
        )


def stub(opened: grpc.aio.Channel) -> Any:
    return pb_grpc.GRPCInferenceServiceStub(opened)


async def refusal(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


@pytest.mark.parametrize("name", ["echo", "toy/echo"])
async def test_every_replica_loads_and_unloads(gateway: Gateway, name: str) -> None:
    first, second = Repository(), Repository()
    async with (
        gateway.replica(register=first.register()) as one,
        gateway.replica(register=second.register()) as two,
        gateway.channel() as opened,
    ):
        first.replica, second.replica = one.replica, two.replica
        options = {"metadata": gateway.metadata("toy", "admin"), **OPTIONS}
        for _ in range(3):
            await stub(opened).RepositoryModelUnload(
                pb.RepositoryModelUnloadRequest(model_name=name), **options
            )
            # At once, and not when routes have followed.
            ready = await stub(opened).ModelReady(pb.ModelReadyRequest(name=name), **options)
            assert not ready.ready
            error = await refusal(stub(opened).ModelInfer(pb.ModelInferRequest(model_name=name), **options))
            assert (error.code(), "it was unloaded" in str(error.details())) == (
                grpc.StatusCode.UNAVAILABLE,
                True,
            )
            index = await stub(opened).RepositoryIndex(pb.RepositoryIndexRequest(), **options)
            states = {entry.name: entry.state for entry in index.models}
            assert states == {"toy/echo": "UNAVAILABLE", "toy/other": "READY"}
            request = pb.RepositoryModelLoadRequest(model_name=name)
            request.parameters["version"].string_param = "1"
            await stub(opened).RepositoryModelLoad(request, **options)
            for _ in range(4):
                answer = await stub(opened).ModelInfer(pb.ModelInferRequest(model_name=name), **options)
                assert answer.id == "toy"
        for repository in (first, second):
            assert [asked.model_name for asked in repository.asked] == ["echo"] * 6
            assert repository.asked[-1].parameters["version"].string_param == "1"


@pytest.mark.parametrize(
    "method", ["RepositoryModelLoad", "RepositoryModelUnload", "LogSettings", "TraceSetting"]
)
async def test_only_administrators_may(gateway: Gateway, method: str) -> None:
    repository = Repository()
    request = getattr(pb, f"{method}Request")()
    if "Model" in method:
        request.model_name = "echo"
    async with gateway.replica(register=repository.register()), gateway.channel() as opened:
        for scopes in (("toy",), ("toy", "vision", "mesh"), ("administrator",)):
            metadata = gateway.metadata(*scopes)
            error = await refusal(getattr(stub(opened), method)(request, metadata=metadata, **OPTIONS))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        error = await refusal(getattr(stub(opened), method)(request, **OPTIONS))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not repository.asked


async def test_who_failed_is_named_with_the_reason(gateway: Gateway) -> None:
    good, bad = (
        Repository(),
        Repository(FailedPrecondition("graph.onnx differs from its digest", fix="pull it again")),
    )
    async with (
        gateway.replica(register=good.register()) as one,
        gateway.replica(register=bad.register()) as two,
        gateway.channel() as opened,
    ):
        good.replica = one.replica
        call = stub(opened).RepositoryModelLoad
        request = pb.RepositoryModelLoadRequest(model_name="toy/echo")
        options = {"metadata": gateway.metadata("admin"), **OPTIONS}

        error = await refusal(call(request, **options))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        text = error.details() or ""
        assert "model toy/echo: loaded on 1 of 2 replicas" in text
        assert f"toy at {two.address}: FAILED_PRECONDITION: graph.onnx differs" in text
        assert one.address not in text

        bad.error = Unavailable("model toy/echo", reason="it is being loaded already", retry_after_s=1)
        error = await refusal(call(request, **options))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert f"toy at {two.address}: UNAVAILABLE" in (error.details() or "")
        assert get_details(get_status(error))["RetryInfo"].retry_delay.ToNanoseconds() > 0

        # What all say alike is the answer, details included.
        good.error = bad.error = NotFound("model", "ecko", known=["echo"])
        error = await refusal(call(pb.RepositoryModelLoadRequest(model_name="toy/ecko"), **options))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert (
            get_status(error).message == error.details() == 'no model is named "ecko"; those that exist: echo'
        )


async def test_a_replica_that_cannot_be_reached_did_not_load(gateway: Gateway) -> None:
    repository = Repository()
    async with gateway.replica(register=repository.register()) as one, gateway.channel() as opened:
        repository.replica = one.replica
        gone = gateway.write_endpoint("toy", "127.0.0.1:1")
        try:
            await gateway.until_state("toy", "127.0.0.1:1", 1)
            error = await refusal(
                stub(opened).RepositoryModelUnload(
                    pb.RepositoryModelUnloadRequest(model_name="echo"),
                    metadata=gateway.metadata("admin"),
                    **OPTIONS,
                )
            )
        finally:
            gone.unlink()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "unloaded on 1 of 2 replicas; toy at 127.0.0.1:1: UNAVAILABLE: unreachable" in (
            error.details() or ""
        )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT),
        ("none", grpc.StatusCode.NOT_FOUND),
        ("nobody/echo", grpc.StatusCode.NOT_FOUND),
        ("vision/echo", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_name_that_leads_nowhere(gateway: Gateway, name: str, code: grpc.StatusCode) -> None:
    async with gateway.replica(), gateway.channel() as opened:
        request = pb.RepositoryModelLoadRequest(model_name=name)
        metadata = gateway.metadata("admin")
        error = await refusal(stub(opened).RepositoryModelLoad(request, metadata=metadata, **OPTIONS))
    assert error.code() is code


async def test_settings_reach_every_replica(gateway: Gateway) -> None:
    first, second = Repository(), Repository()
    async with (
        gateway.replica(register=first.register()),
        gateway.replica(register=second.register()),
        gateway.channel() as opened,
    ):
        options = {"metadata": gateway.metadata("admin"), **OPTIONS}
        request = pb.LogSettingsRequest()
        request.settings["log_verbose_level"].uint32_param = 1
        answer = await stub(opened).LogSettings(request, **options)
        assert answer.settings["log_verbose_level"].uint32_param == 1
        assert first.asked == second.asked == [request]
        error = await refusal(stub(opened).TraceSetting(pb.TraceSettingRequest(), **options))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_there_is_no_shared_memory(gateway: Gateway) -> None:
    async with gateway.replica(), gateway.channel() as opened:
        options = {"metadata": gateway.metadata("toy"), **OPTIONS}
        for kind in ("SystemSharedMemory", "CudaSharedMemory"):

            def call(verb: str, kind: str = kind, **fields: Any) -> Any:
                request = getattr(pb, f"{kind}{verb}Request")(**fields)
                return getattr(stub(opened), f"{kind}{verb}")(request, **options)

            assert not (await call("Status")).regions
            await call("Unregister")
            assert (await refusal(call("Status", name="echo"))).code() is grpc.StatusCode.NOT_FOUND
            assert (await refusal(call("Register", name="echo"))).code() is grpc.StatusCode.UNIMPLEMENTED
