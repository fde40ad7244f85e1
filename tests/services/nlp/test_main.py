"""`python -m services.nlp` as a process: from its environment to an answer, and to a readable refusal."""

import signal
from pathlib import Path

import grpc
import pytest
from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc

from tests.support.service_process import STATES, loaded, started
from tests.support.waiting import within

LIMIT_S = 30.0


async def test_it_serves_and_stops(models_dir: Path, tmp_path: Path):
    socket = f"unix:{tmp_path}/nlp.sock"
    environ = {
        "SENSORIUM_NLP_RPC__ADDRESS": socket,
        "SENSORIUM_NLP_INFERENCE__MODELS_DIR": str(models_dir / "nlp"),
        "SENSORIUM_NLP_BOUNDS__MAX_ITEMS": "2",
    }
    async with started("services.nlp", environ) as process, grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        limits = {limit.method.rpartition("/")[2]: limit for limit in snapshot.limits}
        assert (limits["EmbedText"].max_items, limits["ClassifyText"].max_tokens) == (2, 256)
        stub = pb_grpc.NlpServiceStub(channel)
        reply = await within(stub.EmbedText(pb.EmbedTextRequest(texts=["Hello"])), LIMIT_S)
        assert len(reply.results[0].embedding.values) == 384
        process.send_signal(signal.SIGTERM)
        await within(process.communicate(), LIMIT_S)
        assert process.returncode == 0


async def test_what_was_never_pulled_is_said(tmp_path: Path):
    socket = f"unix:{tmp_path}/nlp.sock"
    environ = {
        "SENSORIUM_NLP_RPC__ADDRESS": socket,
        "SENSORIUM_NLP_INFERENCE__MODELS_DIR": str(tmp_path / "none"),
    }
    async with started("services.nlp", environ), grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        assert {model.state for model in snapshot.models} == {STATES.STATE_UNAVAILABLE}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(
                pb_grpc.NlpServiceStub(channel).EmbedText(pb.EmbedTextRequest(texts=["Hello"])), LIMIT_S
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "sensorium models pull minilm" in caught.value.details()


async def test_bad_settings_are_one_readable_refusal():
    async with started(
        "services.nlp", {"SENSORIUM_NLP_BOUNDS__MAX_ITEMS": "many", "SENSORIUM_NLP_COLOUR": "red"}
    ) as process:
        _, errors = await within(process.communicate(), LIMIT_S)
        assert process.returncode == 1
        text = errors.decode()
        assert "SENSORIUM_NLP_BOUNDS__MAX_ITEMS" in text
        assert "SENSORIUM_NLP_COLOUR" in text
        assert "Traceback" not in text
