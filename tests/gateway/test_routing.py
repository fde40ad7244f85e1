"""Where calls go: by model, by name, to the default; and what is said where they cannot go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from tests.gateway.support.running import Gateway, eventually, say
from tests.gateway.support.toy import inference, model, toy
from tests.gateway.support.toy import say as answer
from tests.support.serving import get_details, get_status
from tests.support.waiting import take, within

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def infer(gateway: Gateway, name: str, method: str = "ModelInfer") -> Any:
    async with gateway.channel() as opened:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(opened)
        if method == "ModelInfer":
            request: Any = inference_pb2.ModelInferRequest(model_name=name)
        else:
            request = getattr(inference_pb2, f"{method}Request")(name=name)
        return await getattr(stub, method)(request, metadata=gateway.metadata(), timeout=10)


async def refusal(awaitable: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), caught.value.details() or "", get_details(get_status(caught.value))


async def test_without_replicas_it_says_so(gateway: Gateway) -> None:
    assert await gateway.health() == NOT_SERVING
    assert await gateway.health("toy.v1.ToyService") == NOT_SERVING

    async def says_so() -> bool:
        code, text, details = await refusal(say(gateway))
        # The routes of a replica that has just left may still be there; that answer is the data plane's.
        assert code is grpc.StatusCode.UNAVAILABLE
        assert details["RetryInfo"].retry_delay.ToNanoseconds() > 0
        return "service toy is unavailable: the gateway knows of no replica" in text

    await eventually(says_so, "the control plane answers for a service without replicas")


async def test_a_call_goes_where_its_model_is_ready(gateway: Gateway) -> None:
    async def mark(request: Any, context: Any) -> Any:
        reply = await answer(request, context)
        reply.replica = "second"
        return reply

    first = [
        model("echo", default_for=("Say",)),
        model("only-broken", ready=False, reason="its digest differs"),
    ]
    second = [
        model("echo", ready=False, reason="it is loading"),
        model("big", graphs=("big.encoder", "big.decoder")),
    ]
    async with (
        gateway.replica(models=first),
        gateway.replica(models=second, register=[toy(mark), inference("second")]),
    ):
        for name in ("", "echo", "toy/echo"):
            said = {(await say(gateway, model=name)).replica for _ in range(5)}
            assert "second" not in said, name
        for name in ("big", "toy/big"):
            assert (await say(gateway, model=name)).replica == "second"
        for name in ("big.encoder", "toy/big.decoder", "big"):
            assert (await infer(gateway, name)).id == "second"
        assert (await infer(gateway, "toy/echo")).id == "toy"

        code, text, _ = await refusal(say(gateway, model="only-broken"))
        assert (code, "its digest differs" in text) == (grpc.StatusCode.UNAVAILABLE, True)
        code, text, details = await refusal(say(gateway, model="ecko"))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "big, big.decoder, big.encoder, echo, only-broken" in text
        assert details["ResourceInfo"].resource_name == "ecko"
        code, text, _ = await refusal(say(gateway, model="big.encoder"))
        assert (code, "name 'big'" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        code, text, _ = await refusal(infer(gateway, "vision/echo"))
        assert (code, "toy/echo" in text) == (grpc.StatusCode.NOT_FOUND, True)


async def test_a_name_that_two_services_have_must_be_whole(gateway: Gateway) -> None:
    async with gateway.replica(), gateway.replica("vision", [model("echo")], [inference("vision")]):
        code, text, details = await refusal(infer(gateway, "echo"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "toy/echo" in text
        assert "vision/echo" in text
        assert details["PreconditionFailure"].violations
        assert (await infer(gateway, "vision/echo")).id == "vision"
        assert (await infer(gateway, "toy/echo")).id == "toy"
        # A typed call knows its service.
        assert (await say(gateway, model="echo", text="hi")).text == "hi"


async def test_names_of_all_kinds_are_answered_in_words(gateway: Gateway) -> None:
    async with gateway.replica():
        for name in ("ü", "a\nb", "x" * 5000, "%65cho", "echo ", "../echo", "toy/", "/", "toy/toy/echo", '"'):
            code, text, _ = await refusal(infer(gateway, name))
            assert code is grpc.StatusCode.NOT_FOUND, name
            assert "toy/echo" in text
        code, text, _ = await refusal(infer(gateway, ""))
        assert (code, "model_name" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/toy.v1.ToyService/Shout", "it has Say, StreamingCount, Write"),
        ("/nobody.v1.Service/Any", "this mesh serves"),
        ("/sensorium.nlp.v1.NlpService/EmbedText", "not served by this mesh"),
        ("/sensorium.mesh.v1.ReplicaService/StreamingWatchReplica", "not served by this mesh"),
    ],
)
async def test_what_is_not_there_is_said_not_to_be(gateway: Gateway, path: str, says: str) -> None:
    async with gateway.channel() as opened:
        code, text, _ = await refusal(opened.unary_unary(path)(b"", metadata=gateway.metadata(), timeout=10))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert says in text


async def test_model_ready_tells_rather_than_fails(gateway: Gateway) -> None:
    async with gateway.replica(models=[model("echo"), model("late", ready=False, reason="loading")]):
        assert (await infer(gateway, "echo", "ModelReady")).ready
        assert not (await infer(gateway, "late", "ModelReady")).ready
        code, _, _ = await refusal(infer(gateway, "none", "ModelReady"))
        assert code is grpc.StatusCode.NOT_FOUND


async def test_the_server_wide_calls_speak_for_all_services(gateway: Gateway) -> None:
    async with gateway.replica(), gateway.replica(), gateway.channel() as opened:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(opened)
        options = {"metadata": gateway.metadata(), "timeout": 10}
        assert (await stub.ServerLive(inference_pb2.ServerLiveRequest(), **options)).live
        # vision has no replica.
        assert not (await stub.ServerReady(inference_pb2.ServerReadyRequest(), **options)).ready
        assert (
            await stub.ServerMetadata(inference_pb2.ServerMetadataRequest(), **options)
        ).name == "sensorium"
        index = await stub.RepositoryIndex(inference_pb2.RepositoryIndexRequest(), **options)
        assert [(one.name, one.state) for one in index.models] == [("toy/echo", "READY")]
        (total,) = (await stub.ModelStatistics(inference_pb2.ModelStatisticsRequest(), **options)).model_stats
        assert (total.name, total.inference_count, total.execution_count) == ("toy/echo", 6, 4)
        assert total.inference_stats.success.ns == 60
        assert [(batch.batch_size, batch.compute_infer.count) for batch in total.batch_stats] == [(2, 2)]
        (one,) = (await infer(gateway, "echo", "ModelStatistics")).model_stats
        assert one.inference_count == 3
        async with gateway.replica("vision", [model("other")], [inference("vision")]):
            assert (await stub.ServerReady(inference_pb2.ServerReadyRequest(), **options)).ready


async def test_the_mesh_tells_its_models_and_replicas(gateway: Gateway) -> None:
    async with gateway.replica(), gateway.channel() as opened:
        stub = mesh_service_pb2_grpc.MeshServiceStub(opened)
        options = {"metadata": gateway.metadata("mesh"), "timeout": 10}
        (found,) = (await stub.ListModels(mesh_service_pb2.ListModelsRequest(), **options)).models
        assert (found.service, found.model.name, found.ready_replicas, found.replicas) == (
            "toy",
            "echo",
            1,
            1,
        )
        none = await stub.ListModels(mesh_service_pb2.ListModelsRequest(service="vision"), **options)
        assert not none.models
        code, text, _ = await refusal(
            stub.ListModels(mesh_service_pb2.ListModelsRequest(service="x"), **options)
        )
        assert (code, "toy, vision" in text) == (grpc.StatusCode.NOT_FOUND, True)
    gone = gateway.write_endpoint("toy", "127.0.0.1:1")
    try:
        await gateway.until_state("toy", "127.0.0.1:1", mesh_service_pb2.MeshReplica.STATE_UNREACHABLE)
        (replica,) = (await gateway.replicas("toy")).values()
        assert "UNAVAILABLE" in replica.reason
    finally:
        gone.unlink()


async def test_health_follows_what_the_replica_says(gateway: Gateway) -> None:
    async with gateway.replica() as running:
        for name in ("", "toy", "toy.v1.ToyService", "echo", "toy/echo", "inference.GRPCInferenceService"):
            assert await gateway.health(name) == SERVING, name
        assert await gateway.health("vision") == NOT_SERVING
        code, _, _ = await refusal(gateway.health("nothing"))
        assert code is grpc.StatusCode.NOT_FOUND
        running.replica.set_models([model("echo", ready=False, reason="reloading", default_for=("Say",))])

        async def stopped() -> bool:
            return await gateway.health("toy") == NOT_SERVING

        await eventually(stopped, "toy does not serve")

        async def refused() -> bool:
            try:
                await say(gateway)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE and "reloading" in (error.details() or "")
            return False

        await eventually(refused, "calls are refused with the replica's reason")
        running.replica.set_models([model("echo", default_for=("Say",))])
        await gateway.until_state("toy", running.address, mesh_service_pb2.MeshReplica.STATE_READY)


async def test_a_draining_replica_gets_nothing_new(gateway: Gateway) -> None:
    async with gateway.replica() as leaving, gateway.replica() as staying:
        leaving.replica.set_draining()
        await gateway.until_state("toy", leaving.address, mesh_service_pb2.MeshReplica.STATE_DRAINING)
        await eventually(lambda: _is(gateway.stat("cluster.toy.membership_healthy") == 1), "one is left")
        before = staying.server.metrics.bind("toy.v1.ToyService", "Say").codes.get("OK", 0)
        for _ in range(10):
            await say(gateway)
        assert staying.server.metrics.bind("toy.v1.ToyService", "Say").codes["OK"] == before + 10


async def _is(value: bool) -> bool:
    return value


async def test_a_replica_of_another_service_is_not_used(gateway: Gateway) -> None:
    async with gateway.replica("vision", [model("echo")], [inference("vision")]) as running:
        wrong = gateway.write_endpoint("toy", running.address)
        try:
            await gateway.until_state("toy", running.address, mesh_service_pb2.MeshReplica.STATE_UNREACHABLE)
            found = (await gateway.replicas("toy"))[running.address]
            assert "replica of vision, expected one of toy" in found.reason
        finally:
            wrong.unlink()
            await gateway.until_state("toy", running.address, None)


async def test_reflection_describes_what_the_gateway_has_no_stubs_of(gateway: Gateway) -> None:
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    for version in ("v1", "v1alpha"):
        async with gateway.channel() as opened:
            call = opened.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            asked = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="toy.v1.ToyService"),
            ]
            answers = [one async for one in call(iter(asked), metadata=gateway.metadata(), timeout=10)]
        names = {one.name for one in answers[0].list_services_response.service}
        assert {
            "toy.v1.ToyService",
            "inference.GRPCInferenceService",
            "sensorium.mesh.v1.MeshService",
        } <= names
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(one)
            for one in answers[1].file_descriptor_response.file_descriptor_proto
        ]
        assert "toy/v1/toy.proto" in {one.name for one in files}


async def test_a_replica_on_a_unix_socket(gateway: Gateway, tmp_path: Path) -> None:
    async with gateway.replica(address=f"unix:{tmp_path}/toy.sock"):
        assert (await say(gateway, text="socket")).text == "socket"


async def test_a_server_that_is_none_of_ours_can_be_a_replica(gateway: Gateway) -> None:
    """It answers health and its own rpcs, and knows nothing of models."""
    server = grpc.aio.server()
    toy()(server)
    servicer = health_aio.HealthServicer()
    await servicer.set("", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await within(server.start())
    written = gateway.write_endpoint("toy", address)
    try:
        await gateway.until_state("toy", address, mesh_service_pb2.MeshReplica.STATE_READY)
        assert (await say(gateway, text="stranger")).text == "stranger"
    finally:
        written.unlink()
        await gateway.until_state("toy", address, None)
        await within(server.stop(0))


async def test_who_watches_the_health_hears_of_changes(gateway: Gateway) -> None:
    async with gateway.channel() as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        call = stub.Watch(health_pb2.HealthCheckRequest(service="toy/echo"))
        watch = aiter(call)
        assert (await take(watch)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        async with gateway.replica():
            # The control plane knows of it before the data plane sends it calls.
            assert (await take(watch)).status == NOT_SERVING
            assert (await take(watch)).status == SERVING
        assert (await take(watch)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        call.cancel()
