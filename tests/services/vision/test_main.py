"""`python -m services.vision` as a process: from its environment to an answer, and to a readable refusal."""

import shutil
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2 as pb
from sensorium.vision.v1 import vision_service_pb2_grpc as pb_grpc

from tests.services.vision.asking import LIMIT_S, images, refused
from tests.support.service_process import STATES, loaded, started
from tests.support.waiting import within


async def test_it_serves_what_it_can_and_says_what_it_cannot(
    models_dir: Path, cat: bytes, tmp_path: Path
) -> None:
    """One model is damaged, two were never pulled; the one that is whole answers, the process ends with 0."""
    folder = tmp_path / "models"
    for name in ("efficientnet-lite0", "centerface"):
        shutil.copytree(models_dir / "vision" / name, folder / name)
    broken = folder / "centerface" / "1" / "model.onnx"
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    socket = f"unix:{tmp_path}/vision.sock"
    environ = {
        "SENSORIUM_VISION_RPC__ADDRESS": socket,
        "SENSORIUM_VISION_INFERENCE__MODELS_DIR": str(folder),
        "SENSORIUM_VISION_BOUNDS__CLASSIFY_IMAGE__MAX_ITEMS": "2",
    }
    async with started("services.vision", environ) as process, grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        models = {model.name: model for model in snapshot.models}
        assert snapshot.service == "vision"
        limits = {limit.method.rpartition("/")[2]: limit for limit in snapshot.limits}
        assert limits["ClassifyImage"].max_items == 2
        assert models["efficientnet-lite0"].state == STATES.STATE_READY
        assert models["centerface"].state == STATES.STATE_UNAVAILABLE
        assert "model.onnx" in models["centerface"].reason
        assert "sha256" in models["centerface"].reason
        assert "sensorium models pull pp-ocr" in models["pp-ocr"].reason

        stub = pb_grpc.VisionServiceStub(channel)
        reply = await within(stub.ClassifyImage(pb.ClassifyImageRequest(images=images(cat))), LIMIT_S)
        assert reply.results[0].classifications[0].label in {"Egyptian cat", "tabby"}
        for call, words in (
            (stub.DetectFaces(pb.DetectFacesRequest(images=images(cat))), "sha256"),
            (stub.ReadText(pb.ReadTextRequest(images=images(cat))), "sensorium models pull pp-ocr"),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert words in error.details()
        health = health_pb2_grpc.HealthStub(channel)
        checked = await within(
            health.Check(health_pb2.HealthCheckRequest(service="vision/efficientnet-lite0"))
        )
        assert checked.status == health_pb2.HealthCheckResponse.SERVING

        process.terminate()
        await within(process.communicate(), LIMIT_S)
        assert process.returncode == 0


async def test_bad_settings_are_one_readable_refusal(tmp_path: Path) -> None:
    environ = {
        "SENSORIUM_STATE_DIR": str(tmp_path),
        "SENSORIUM_VISION_BOUNDS__READ_TEXT__MAX_PIXELS": "900000000",
        "SENSORIUM_VISION_COLOUR": "blue",
    }
    async with started("services.vision", environ) as process:
        _, output = await within(process.communicate(), LIMIT_S)
        text = output.decode()
        assert process.returncode == 1
        assert "SENSORIUM_VISION_BOUNDS__READ_TEXT__MAX_PIXELS" in text
        assert "SENSORIUM_VISION_COLOUR" in text
        assert "Traceback" not in text
