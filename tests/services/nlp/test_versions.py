"""What the service makes of a model follows the version that serves: tokenizer, limits, and refusing what lacks them."""

from pathlib import Path

import pytest
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.limits import Bounds, describe, read_max_tokens
from services.nlp.servicer import NlpServicer
from shared.errors import FailedPrecondition
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline, set_deadline
from tests.support.artifact_copy import change_manifest, copy_version
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

CATALOG = {"minilm": {"version": "1", "default_for": ["EmbedText", "ClassifyText/candidate_labels"]}}
LIMIT_S = 60.0


async def test_tokens_and_limits_are_those_of_the_version_that_serves(
    models_dir: Path, tmp_path: Path
) -> None:
    source = models_dir / "nlp" / "minilm" / "1"
    copy_version(source, tmp_path, "1")
    repository = Repository(tmp_path, "nlp", InferenceSettings(signature=UNSIGNED), CATALOG)
    servicer = NlpServicer(repository, Bounds())
    told: list[int] = []
    repository.on_change = lambda: told.append(
        max(one.max_tokens for one in describe(Bounds(), 2**20, read_max_tokens(repository)))
    )
    await within(repository.load_all(), LIMIT_S)
    set_deadline(Deadline.after(LIMIT_S))
    request = pb.EmbedTextRequest(texts=["many words " * 200])

    async def count() -> tuple[str, int]:
        reply = await within(servicer.EmbedText(request, None), LIMIT_S)
        return reply.model.version, reply.results[0].token_count

    assert await count() == ("1", 256)
    copy_version(source, tmp_path, "2", change_manifest(constants={"max_tokens": 64}))
    await within(repository.load_model("minilm"), LIMIT_S)
    assert await count() == ("2", 64)
    assert told[-1] == 64

    copy_version(source, tmp_path, "3", change_manifest(assets={"tokenizer": None}))
    with pytest.raises(FailedPrecondition, match=r"version 2 serves on: .*EmbedText needs.*tokenizer"):
        await within(repository.load_model("minilm"), LIMIT_S)
    copy_version(source, tmp_path, "4", change_manifest(preprocessing="text/9"))
    with pytest.raises(FailedPrecondition, match=r"version 2 serves on: .*made for text-wordpiece-uncased/1"):
        await within(repository.load_model("minilm"), LIMIT_S)
    assert await count() == ("2", 64)
    assert told[-1] == 64
    repository.on_change = None
    await within(repository.close())
